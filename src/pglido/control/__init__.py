"""The one control process: it starts and watches the workers, keeps the limits, answers the console."""

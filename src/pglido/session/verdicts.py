"""What `Client.take` says about the bytes it was given."""

GO_ON = 0  # all that came is dealt with
ATTACH = 1  # needs a server before the rest can go on
GOODBYE = 2  # the client said Terminate
WAIT = 4  # what comes next depends on an answer that the server still owes: go on after that (`until`)
WISH = 5  # before it goes on the dispatcher must do what it wants: `signal_targets`, `vacates`, `wish` say what
PAUSE = 6  # has had its share of this round: go on in the next
CLOSE_IT = 3  # the client broke the protocol or a limit: `fault` says how

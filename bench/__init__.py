"""A side-by-side benchmark of pglido and other poolers: the same server, the same load, in turns.

    scenarios.py    the table of what is measured
    contestants.py  who is measured: pglido, PgBouncer, poolers that run already
    database.py     the PostgreSQL behind all of them
    load.py         one measurement; crowd.py holds idle clients, measure.py reads /proc
    rounds.py       the order of it all
    results.py      what came out, and the ratios
    report.py, plot.py, document.py, machine.py: as a table, a plot, a section of a document

Run it as `python -m bench`; docs/performance.md explains it.
"""

"""Compares whole servers in one run: `PYTHONPATH=bench python3 -m compare --help`.

| module | what it is for |
|---|---|
| `__main__` | the command line |
| `plan` | how much is measured, and for how long |
| `places` | where things are |
| `install` | what a fresh machine lacks |
| `servers` | a file a contestant: how it is filled, started and asked |
| `process` | a running server: its first answer, its memory, its end |
| `load` | one run of the load generator |
| `sections` | the work, a function a section |
| `targets` | what the service promises to reach, and whether it does |
| `record`, `machine` | what is kept of it all |
| `markdown`, `plots` | what is shown of it |

Only Python's standard library, so that nothing has to be installed before the installing.
"""

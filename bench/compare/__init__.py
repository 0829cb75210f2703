"""Compares whole servers in one run: `PYTHONPATH=bench python3 -m compare --help`.

| module | what it is for |
|---|---|
| `__main__` | the command line |
| `plan` | how much is measured, and for how long |
| `paths` | paths, and what all the servers have in common |
| `install` | what a fresh machine lacks |
| `servers` | a file a contestant: how it is filled, started and asked |
| `process` | a running server: its first answer, its memory, its end |
| `load` | one run of the load generator |
| `sections` | the work, a function a section |
| `targets` | the targets, and whether a run met them |
| `record`, `machine` | the record of a run, and of the machine that it ran on |
| `markdown`, `plots` | the page and the drawings that are made of the record |

Only Python's standard library, so that nothing has to be installed before it starts.
"""

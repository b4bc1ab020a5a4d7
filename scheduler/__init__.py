"""`drumbeat scheduler`: strikes on time.

* `command`  settings and the process: waits for the database, answers its probes
"""

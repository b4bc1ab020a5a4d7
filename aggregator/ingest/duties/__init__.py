"""drumbeat's own upkeep when a schedule says so: executions of type maintenance, done on a thread beside the beat.

* `foreman`  the thread: claims executions, holds their lease, stops the work when it must
* `works`    what each duty does
* `folders`  where files may be written
* `summary`  the daily report: facts from the tables, forecasts, the text
"""

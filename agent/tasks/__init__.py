"""Tasks on this host: only what its own tasks file allows by name, begun by a message, told until its end is acknowledged.

Rooms, in the order of a request:

* `door`        what the loop knows; nothing else is loaded before there is something to do
* `allowed`     the tasks file: who may write it and what it allows (`entries` is its form)
* `arguments`   a request's arguments against their schema, and into the argument list (pure)
* `planning`    a request → what is to be run, or a refusal that names the field
* `desk`        what runs, waits and is stopped; `telling` is what is told, and told again
* `journal`     every execution on disk, so that none runs twice and no end is lost
* `work`        one execution in a thread, so that no tick waits for it
* `program`     a program of the tasks file, its process group and output (`output`), its user (`accounts`)
* `containers`, `signalling`, `cleaning`   the built-in tasks
"""

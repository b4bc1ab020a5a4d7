"""The commands people run. Those that look go through the REST API, those that administer go to the database.

* `api`      asking the REST API, with errors that say what to mend
* `screen`   tables and figures for people, JSON for machines; `verbs` which verb of a command was asked for
* `hosts`    `drumbeat hosts`: list hosts with their health
* `status`   `drumbeat status`: the fleet at a glance
* `top`      `drumbeat top`: one host, live; `panels` draws it
* `alerts`   `drumbeat alerts`: list, show, acknowledge, dismiss or resolve; `incident` tells one in words
* `silence`  `drumbeat silence`: list, add, end
* `rules`    `drumbeat rules`: list, show, preview, and files of rules; `rule_texts` puts them in words
* `anomalies`, `trends`, `explain`  what was unlike a host, where a metric is heading, what happened at a time
* `schedules`, `schedule`, `executions`  lists, one schedule, what became of them; `schedule_wishes` reads what is to be made,
  `schedule_texts` puts them in words
* `enrolment`, `credential`  tokens by which machines join, and agents' credentials for the broker
* `token`    `drumbeat token`: create, list or revoke API tokens
* `audit`    `drumbeat audit`: prove that nothing is lost or doubled
* `backup`, `restore`  `drumbeat backup` and `restore`: configuration and alert history, or the whole store, as files
* `migrate`  `drumbeat migrate`: bring the schema up to date
"""

"""The simulated operator: what `vmwatch simulate` and `vmwatch demo` run, and what the tests poll.

It speaks the documented list call and PIN check, locks out like the real one, gives odd answers on demand,
and writes down every login. Anything else under its root is what a client must never send: a violation.

Steered by calling `Simulator`'s methods, or over HTTP with JSON objects:

    what                           body, or query                                  answers
    -----------------------------------------------------------------------------------------------------
    POST /_simulator/lines         number, pin; enabled, known (true, false)       {}
    POST /_simulator/flags         number; enabled, known                          {}
    POST /_simulator/messages      number; caller, name, length, and any field     {"id": "..."}
                                   of the operator's; caller null: withheld
    POST /_simulator/hear          number, id    (NEW becomes OLD)                 {}
    POST /_simulator/save          number, id    (becomes SAVED)                   {}
    POST /_simulator/delete        number, id                                      {}
    POST /_simulator/set_pin       number, pin   (null: it has none)               {}
    POST /_simulator/unlock        number        (forgets failed logins)           {}
    POST /_simulator/blacklist     on            (every answer is 403 blacklisted) {}
    POST /_simulator/odd           number, what; times (none: from now on;         {}
                                   what null: no more oddities)
    GET  /_simulator/log           number        (%2B for the +)                   {"logins", "violations"}

`what` is one of `Odd`. A login counts before its odd answer is given, as if the answer had been spoilt on its
way back: that is the dangerous case.
"""

from vmwatch.simulator.callers import CALLERS, Caller, random_caller
from vmwatch.simulator.exchange import Login, Verdict
from vmwatch.simulator.odd import Odd
from vmwatch.simulator.server import Simulator

__all__ = ["CALLERS", "Caller", "Login", "Odd", "Simulator", "Verdict", "random_caller"]

"""What channels show of messages: cleared once nothing of it is to be heard any more, by deliveries like any other.

A delivery that was sent to a channel which can clear has the name that it is shown by. Whoever finds that the last
of its messages was heard, or seen to by a person, takes the name away and owes the clearing in the same transaction: so
it is owed once.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmwatch.ledger.alerts import owe
from vmwatch.ledger.engine import Transaction
from vmwatch.ledger.notes import NOTE
from vmwatch.ledger.rows import alert_from_json
from vmwatch.models import Alert, Instant, Kind
from vmwatch.sequences import about, name

# A channel that is gone is not waited for.
_SHOWN = """
SELECT d.id, d.channel, d.shown_as, a.number, a.facts FROM delivery d
JOIN alert a ON a.id = d.alert_id JOIN channel c ON c.name = d.channel AND c.configured = 1
WHERE d.shown_as IS NOT NULL
"""


_UNHEARD = "m.left_new_at IS NULL AND m.acked_at IS NULL"


def _none_of_its_messages(waits: str) -> str:
    return f"""
    NOT EXISTS (SELECT 1 FROM message m WHERE m.alert_id = d.alert_id AND {waits})
    AND NOT EXISTS (SELECT 1 FROM mention o JOIN message m ON m.number = o.number AND m.id = o.message
                    WHERE o.alert_id = d.alert_id AND {waits})
    """


_TELLING = """
d.alert_id IN (SELECT alert_id FROM message WHERE number = :number AND id = :id
               UNION SELECT alert_id FROM mention WHERE number = :number AND message = :id)
"""
# Whoever sees to another message of what tells of several: the second of the two finds that it is over.
_IN_TURN = f"""
/*+ SELECT d.id FROM delivery d WHERE d.shown_as IS NOT NULL AND {_TELLING} ORDER BY d.id FOR UPDATE */
"""
_OF_MESSAGE = f"""
{_SHOWN} AND {_TELLING} AND {_none_of_its_messages(_UNHEARD)} ORDER BY d.id
"""
# What a person had seen to before is told all the same to those who have not got it yet, so it stays there.
_OF_DELIVERY = f"{_SHOWN} AND d.id = :id AND {_none_of_its_messages('m.left_new_at IS NULL')}"
CLEARING = """
state IN ('pending', 'dead') AND EXISTS (SELECT 1 FROM alert a WHERE a.id = delivery.alert_id
                                      AND a.kind = 'voicemail.cleared'
                                      AND a.facts LIKE '%"clears":"' || CAST(:name AS TEXT) || '"%')
"""
"""A delivery that is still to clear what is shown by a name, or never did."""
_OVERTAKEN = f"""
UPDATE delivery SET state = 'withdrawn', next_attempt_at = NULL, version = version + 1
WHERE channel = :channel AND {CLEARING}
  AND EXISTS (SELECT 1 FROM delivery d WHERE d.id = :id AND NOT ({_none_of_its_messages(_UNHEARD)}))
"""
_TAKE = "UPDATE delivery SET shown_as = NULL WHERE id = :id AND shown_as IS NOT NULL"

# The messages first, as whoever marks them as heard: what one of the two changes, the other sees.
_LOCK = (
    """/*+ SELECT id FROM message WHERE alert_id = (SELECT alert_id FROM delivery WHERE id = :id)
    ORDER BY number, id FOR UPDATE */""",
    """/*+ SELECT m.id FROM message m JOIN mention o ON o.number = m.number AND o.message = m.id
    WHERE o.alert_id = (SELECT alert_id FROM delivery WHERE id = :id) ORDER BY m.number, m.id FOR UPDATE OF m */""",
)


async def clear(
    transaction: Transaction, number: str, ids: Sequence[str], now: Instant, told: Alert | None = None
) -> None:
    """Owe the clearing of what is shown of messages, but for what `told`, an alert about them, is shown in place of."""
    owed: dict[tuple[str, str], Alert] = {}
    replaced = {} if told is None else await _names(transaction, told)
    for id_ in ids:
        await transaction.all(_IN_TURN, number=number, id=id_)
        for delivery, channel, shown_as, _, facts in await transaction.all(_OF_MESSAGE, number=number, id=id_):
            await transaction.run(_TAKE, id=delivery)
            if replaced.get(channel) != shown_as:
                owed[channel, shown_as] = _cleared(channel, shown_as, alert_from_json(facts), number)
    for alert in owed.values():
        await owe(transaction, alert, now)


async def lock(transaction: Transaction, delivery: int) -> None:
    """Let nobody mark the messages of a delivery as heard until this transaction ends."""
    for statement in _LOCK:
        await transaction.all(statement, id=delivery)


async def overtake(transaction: Transaction, delivery: int, channel: str, name: str) -> None:
    """What was sent just now, and nobody has seen to, is not to be cleared in the place of what was shown before."""
    await transaction.run(_OVERTAKEN, id=delivery, channel=channel, name=name)


async def clear_if_over(transaction: Transaction, delivery: int, now: Instant) -> None:
    """What was sent just now may have been heard meanwhile: then it is cleared, too."""
    for _, channel, shown_as, number, facts in await transaction.all(_OF_DELIVERY, id=delivery):
        await transaction.run(_TAKE, id=delivery)
        await owe(transaction, _cleared(channel, shown_as, alert_from_json(facts), number), now)


def _cleared(channel: str, shown_as: str, shown: Alert, number: str | None) -> Alert:
    """Of one message it says which."""
    alone = shown.count == 1 and number is not None
    return Alert(
        Kind.VOICEMAIL_CLEARED,
        (channel,),
        subject=shown.subject,
        number=number,
        messages=tuple(voicemail.id for voicemail in shown.voicemails) if alone else (),
        clears=shown_as,
    )


async def _names(transaction: Transaction, told: Alert) -> dict[str, str]:
    """What an alert will be known by on each of its channels: another name than before on one that was renamed."""
    ((salt,),) = await transaction.all(NOTE, key="salt")
    of = about((told.number or "", id_) for id_ in told.messages)
    return {channel: name(bytes.fromhex(salt), channel, of) for channel in told.channels}

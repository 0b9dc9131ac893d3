"""How long real Spot machines ran until they were taken away.

Read off one record in https://github.com/skypilot-org/spot-traces (the data of Wu et al., "Can't Be
Late: Optimizing Spot Instance Savings under Deadlines", NSDI 2024):
preemption/4-node/aws-08-03-2023/us-east-1f_v100_1.json. From 3 August 2023 on, four machines of the
type p3.2xlarge, with a V100 each, were asked for as Spot instances of AWS in the zone us-east-1f, and
every 300 s it was written down how many of them ran.

A life is an unbroken row of entries in which all four ran: so long could a job that needs all of them
go on. These are those among the entries 2342 to 3475, counted from 0, with nothing left out: four days.
The times in between, in which some or all of the machines could not be had, are not in here.
"""

from __future__ import annotations

# In the order of the record, in minutes.
MINUTES = (
    *(310, 85, 410, 30, 15, 90, 100, 170, 925, 5, 175, 45, 290),
    *(60, 315, 100, 180, 5, 50, 35, 20, 20, 25, 200, 30),
)


def lives(mean: float) -> list[float]:
    """The same, with this mean in place of two and a half hours."""
    unit = mean * len(MINUTES) / sum(MINUTES)
    return [unit * minutes for minutes in MINUTES]

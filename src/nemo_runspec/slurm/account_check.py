"""Whether this user may use a profile's account and qos, as far as the cluster keeps associations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nemo_runspec.checks import Check, failed, not_checked, passed
from nemo_runspec.errors import did_you_mean
from nemo_runspec.slurm.hosts import Host
from nemo_runspec.slurm.partition_check import ask_slurm

NAME = "account"


@dataclass(frozen=True, kw_only=True)
class Association:
    """One account of a user, and the qos allowed with it."""

    account: str
    qos: tuple[str, ...]


def check_account(host: Host, *, account: str | None, qos: str | None) -> list[Check]:
    """One check for both; SlurmUnreachable if slurmctld or slurmdbd do not answer."""
    settings = parse_settings(ask_slurm(host, ["scontrol", "show", "config"]))
    if settings.get("AccountingStorageType", "").endswith("/none"):
        return [passed(NAME, "the cluster keeps none, so any is accepted")] if account or qos else []
    user = ask_slurm(host, ["id", "-un"]).strip()
    query = [
        "sacctmgr",
        "-n",
        "-P",
        "show",
        "associations",
        f"user={user}",
        f"cluster={settings.get('ClusterName', '')}",
    ]
    associations = parse_associations(ask_slurm(host, [*query, "format=account,qos"]))
    problem = find_problem(associations, account=account, qos=qos, user=user)
    if problem is None:
        said = ", ".join(filter(None, [f"account {account or 'by default'}", f"qos {qos}" if qos else ""]))
        return [passed(NAME, f"{said}: usable by {user}")]
    enforced = settings.get("AccountingStorageEnforce", "none")
    if "associations" in enforced:
        return [failed(NAME, problem, "correct the profile, or ask the site for access")]
    return [not_checked(NAME, f"{problem} This cluster does not enforce it, jobs run all the same")]


def find_problem(associations: Sequence[Association], *, account: str | None, qos: str | None, user: str) -> str | None:
    """Why this user may not use that account and qos, None if nothing speaks against it."""
    have = list(dict.fromkeys(association.account for association in associations))
    if not have:
        return f"user {user} has no account on this cluster."
    if account is not None and account not in have:
        return f"account {account!r} is none of {user}'s; have: {', '.join(have)}.{did_you_mean(account, have)}"
    allowed = {name for found in associations if account in (None, found.account) for name in found.qos}
    if qos is not None and qos not in allowed:
        have_qos = ", ".join(sorted(allowed)) or "none"
        return f"qos {qos!r} is not allowed there; have: {have_qos}.{did_you_mean(qos, allowed)}"
    return None


def parse_associations(text: str) -> list[Association]:
    """From sacctmgr's `account|qos,qos` lines."""
    rows = [line.split("|") for line in text.splitlines() if "|" in line]
    return [Association(account=row[0], qos=tuple(filter(None, row[1].split(",")))) for row in rows]


def parse_settings(text: str) -> Mapping[str, str]:
    """`scontrol show config` by names."""
    return dict(re.findall(r"(?m)^(\w+)\s*= *(.*?) *$", text))

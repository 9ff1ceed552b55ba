#!/usr/bin/env python3
"""A program for Tidegate's `exec` adapter: one request as JSON on standard input, one answer on standard output.

Its cloud is account.py: processes on this machine. To make it yours, replace the bodies of the five functions by calls to
your provider; the rest stays. The protocol: docs/exec-adapter.md. Python 3.9 and its standard library are enough.

A call may be killed at any moment, and is then repeated. So every function begins by looking at what is there, and what
it does it does in one step: give your provider the launch id as its idempotency token, or as the name of the instance.
"""
import errno
import json
import os
import shutil
import sys
import time

from account import Account

PROGRAM = os.environ.get("TIDEGATE_PROGRAM", "tidegate")  # what each instance runs
MAX_INSTANCES = int(os.environ.get("MAX_INSTANCES", "0"))  # 0: as many as are asked for
POLL_SECONDS = 0.02  # how often it is looked whether an instance is gone


class Refusal(Exception):
    """An answer that is an error. `no_capacity` and `bad_configuration` say that nothing was started."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


# The five verbs. Each takes the account and the request, and returns the members of `ok`.


def launch(account, request):
    check_place(account, request["place"], request["launch"])
    with account.locked():
        instance = account.instance(request["launch"])
        if instance is None:
            check_program()
            check_room(account)
            # Secrets become files that only their owner reads: never arguments, labels or names.
            files_of = {"token": "token", "certificate": "certificate.pem", "key": "key.pem"}
            secrets = {files_of[name]: text for name, text in request["secrets"].items() if text is not None}
            labels = {name: request[name] for name in ("launch", "owner", "service", "drain_timeout_ms")}
            instance = account.create(request["launch"], labels, secrets, request["files"])
        if not is_same_node(instance.labels["owner"], request["owner"]):
            raise Refusal("bad_configuration", f"launch id {request['launch']} belongs to another node")
        if instance.was_never_started():  # new, or left so by a call that was killed between the two steps
            try:
                instance.start([shutil.which(PROGRAM)] + request["wrapper"], request["env"])
            except OSError:
                account.remove(request["launch"])  # an error says that nothing is there
                raise
        return {"instance": told(instance)}


def describe(account, request):
    with account.locked():
        instance = account.instance(request["launch"])
        return {"instance": told(instance) if instance else None}


def list_instances(account, request):
    """All of them, or an error: whatever is missing here is taken for gone. Ask your provider for every page."""
    with account.locked():
        mine = [it for it in account.instances() if is_same_node(it.labels["owner"], request["owner"])]
        return {"instances": [told(instance) for instance in mine]}


def terminate(account, request):
    """Returns when it is gone, which may take as long as its drain timeout."""
    while True:
        with account.locked():
            instance = account.instance(request["launch"])
            if instance is None:
                account.remove(request["launch"])  # what a killed call may have left
                return {}
            if instance.end(account):
                return {}
        time.sleep(POLL_SECONDS)


def check(account, request):
    check_place(account, request["place"], "{launch}")
    check_program()
    with account.locked():
        alive = count_alive(account)
    most = f"at most {MAX_INSTANCES}" if MAX_INSTANCES else "as many as are asked for"
    good = {
        "credentials": f"the account {account.root} can be written",
        "quota": f"{alive} instances of {most} are alive",
        "image": f"instances run {shutil.which(PROGRAM)}",
        "network": "instances listen on the loopback address",
    }
    return {"findings": [{"subject": name, "verdict": "good", "words": words} for name, words in good.items()]}


VERBS = {"launch": launch, "describe": describe, "list": list_instances, "terminate": terminate, "check": check}

# What they share.


def told(instance):
    """An instance as the protocol tells it."""
    state, reason, address = instance.look()
    answer = {name: instance.labels[name] for name in ("launch", "owner", "service")}
    answer.update(state=state)
    if reason:
        answer.update(reason=reason)
    if address:
        answer.update(reach={"kind": "loopback", "authority": address})
    if instance.age_seconds() is not None:
        answer.update(age_ms=int(instance.age_seconds() * 1000))
    return answer


def is_same_node(one, other):
    return (one["fleet"], one["node"]) == (other["fleet"], other["node"])


def count_alive(account):
    return sum(instance.look()[0] != "ended" for instance in account.instances())


def check_room(account):
    if 0 < MAX_INSTANCES <= count_alive(account):
        raise Refusal("no_capacity", f"{MAX_INSTANCES} instances are alive, which is the most of {account.root}")


# What an operator may have got wrong is told in words, before anything is started.


def check_place(account, place, launch_id):
    if place["run_dir"] != str(account.home(launch_id)):
        wanted = account.home("{launch}")
        raise Refusal("bad_configuration", f"set instance_dir = \"{wanted}\"; now it makes {place['run_dir']}")


def check_program():
    if shutil.which(PROGRAM) is None:
        raise Refusal("bad_configuration", f"TIDEGATE_PROGRAM is {PROGRAM}, which cannot be found or executed")


def answer(request):
    if request.get("protocol") != 1 or request.get("verb") not in VERBS:
        asked = f"protocol {request.get('protocol')}, verb {request.get('verb')}"
        raise Refusal("bad_configuration", f"this program speaks protocol 1: {', '.join(VERBS)}; not {asked}")
    account = Account(os.environ.get("ACCOUNT", "account"))
    if not account.takes(os.environ.get("ACCOUNT_KEY", "")):
        raise Refusal("bad_configuration", "ACCOUNT_KEY is not the key of this account")
    return VERBS[request["verb"]](account, request)


def kind_of(error):
    """Whether another try can help, by what the system said."""
    for_a_person = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOEXEC)
    kinds = {errno.ENOSPC: "no_capacity", errno.EDQUOT: "no_capacity", **dict.fromkeys(for_a_person, "bad_configuration")}
    return kinds.get(error.errno, "transient")


def main():
    try:
        said = {"ok": answer(json.load(sys.stdin))}
    except Refusal as refusal:
        said = {"error": {"kind": refusal.kind, "message": str(refusal)}}
    except OSError as error:
        said = {"error": {"kind": kind_of(error), "message": str(error)}}
    json.dump({"protocol": 1, **said}, sys.stdout)


if __name__ == "__main__":
    main()

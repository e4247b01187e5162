"""The conformance suite: plays kubelet and API server to a driver, in whatever language, and judges it.

    suite.py     which checks run, in what order, and what became of each
    check.py     a check, its outcome, and how it fails or is skipped
    lab.py       what a check has at hand: API server, kubelet, the driver's process, claims
    checks/      the checks, one module a subject
    report.py    results for people, JSON and JUnit

Belongs here: what a driver owes to the kubelet, the API and the container runtime. Never: anything of our
own SDK or drivers, which are judged like all others.
"""

"""The fault campaign: every fault that must cost nobody a result, injected and counted. `python -m tests.faults`."""

"""What tests run in processes of their own; a module apart, since each process imports it."""


def start_and_finish(uri, number, barrier):
    """A run on a store that may not be there yet, started when all the others are ready too."""
    from lenet_lab.tracking import TrackedRun, claim, open_store

    barrier.wait(120)
    tracked = claim(open_store(uri), f"{number:064x}", "a run")
    assert isinstance(tracked, TrackedRun)
    tracked.begin({})
    tracked.metrics({"val/acc": number / 8}, step=1)
    assert tracked.finish("complete")

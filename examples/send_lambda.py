"""What cannot be imported in the child crosses by value: a lambda, a closure, a local class."""

import bequeath


def main() -> None:
    factor = 3

    class Scaled:
        def __init__(self, number: int) -> None:
            self.number = number * factor

    context = bequeath.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=lambda: queue.put(Scaled(14)))
    process.start()
    print("from the child:", queue.get().number)
    process.join()


if __name__ == "__main__":
    main()

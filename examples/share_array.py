"""An array that several processes write to, each its own part, without copying it."""

import bequeath


def fill(numbers, first: int, last: int) -> None:
    with numbers.get_lock():
        for index in range(first, last):
            numbers[index] = index * 0.5


if __name__ == "__main__":
    numbers = bequeath.Array("d", 1000)
    workers = [
        bequeath.Process(target=fill, args=(numbers, first, first + 250))
        for first in range(0, 1000, 250)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print("sum:", sum(numbers))

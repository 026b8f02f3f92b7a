"""A pool of processes: a function over many elements, a large object that all tasks look at."""

import bequeath


def distance(words: dict[str, int], pair: tuple[str, str]) -> int:
    return abs(words[pair[0]] - words[pair[1]])


if __name__ == "__main__":
    with bequeath.Pool(2) as pool:
        squares = pool.map(lambda x: x * x, range(5))
        print(squares)

        # Each worker is sent it once, however many tasks name it.
        words = pool.share({"ant": 1, "bee": 5, "cat": 12})
        pairs = [("ant", "bee"), ("cat", "ant")]
        print(pool.starmap(distance, [(words, pair) for pair in pairs]))

        try:
            pool.apply(sum, ([1, 2], "three"))
        except TypeError as error:
            print("the worker's own error:", type(error).__name__)

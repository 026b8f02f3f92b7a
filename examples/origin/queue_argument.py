"""The question's second program: a queue that cannot be pickled and yet can be passed."""

import multiprocessing
import pickle
from multiprocessing import Process, Queue

from attempt import attempt, start_method


def worker(queue):
    pass


if __name__ == "__main__":
    multiprocessing.set_start_method(start_method())

    queue = Queue()

    # RuntimeError: Queue objects should only be shared between processes through inheritance
    with attempt("pickle.dumps(queue)"):
        pickle.dumps(queue)

    # Works fine
    with attempt("pass queue"):
        process = Process(target=worker, args=(queue,))
        process.start()
        process.join()
        print("exit code of the child:", process.exitcode, flush=True)

    # What the documentation advises against: the queue as a message of another queue
    with attempt("put queue"):
        carrier = multiprocessing.SimpleQueue()
        carrier.put(queue)
        carrier.get()

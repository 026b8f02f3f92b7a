"""The question's third program: an object whose class exists in this process only."""

import multiprocessing
import pickle
from multiprocessing import Process

from attempt import attempt, start_method


def worker(foo):
    pass


if __name__ == "__main__":
    multiprocessing.set_start_method(start_method())

    class Foo:
        pass

    foo = Foo()

    # Works fine
    with attempt("pickle.dumps(foo)"):
        pickle.dumps(foo)

    # AttributeError: Can't get attribute 'Foo' on <module '__mp_main__' from ...>
    with attempt("pass foo"):
        process = Process(target=worker, args=(foo,))
        process.start()
        process.join()
        print("exit code of the child:", process.exitcode, flush=True)

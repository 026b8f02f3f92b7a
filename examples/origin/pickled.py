"""The question's first program: is an argument pickled on its way to the child?"""

import multiprocessing

from attempt import attempt, start_method


class Foobar:
    def __getstate__(self):
        print("I'm being pickled!", flush=True)


def worker(foobar):
    print(foobar)


if __name__ == "__main__":
    multiprocessing.set_start_method(start_method())

    foobar = Foobar()
    with attempt("pass foobar"):
        process = multiprocessing.Process(target=worker, args=(foobar,))
        process.start()
        process.join()
        print("exit code of the child:", process.exitcode, flush=True)

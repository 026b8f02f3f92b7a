"""The shortest program: start a process, wait for it, look at how it ended."""

import bequeath


def greet(name: str) -> None:
    print(f"hello {name}, this is {bequeath.current_process().name}")


if __name__ == "__main__":
    process = bequeath.Process(target=greet, args=("world",), name="greeter")
    process.start()
    process.join()
    print("exit code", process.exitcode)

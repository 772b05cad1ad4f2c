"""The target program under one candidate: started, told to do rounds, asked what was counted."""

import os
import select
import subprocess

ANSWER_SECONDS = 30


class NoAnswer(Exception):
    """The program has ended, or says nothing."""


class Worker:
    def __init__(self, target, function, shape, setup, env=None, before=(), stderr=None):
        command_read, self.command = os.pipe()
        self.answer, answer_write = os.pipe()
        arguments = [*before, target, function, shape, setup, str(command_read), str(answer_write)]
        self.process = subprocess.Popen(
            arguments,
            env={**os.environ, **(env or {})},
            pass_fds=(command_read, answer_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr or subprocess.DEVNULL,
        )
        os.close(command_read)
        os.close(answer_write)
        self.pid = self.process.pid

    def ask(self, command):
        """The words of the answer."""
        try:
            os.write(self.command, command)
        except BrokenPipeError:
            raise NoAnswer from None
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self.answer], [], [], ANSWER_SECONDS)[0]:
                raise NoAnswer
            byte = os.read(self.answer, 1)
            if not byte:
                raise NoAnswer
            line += byte
        return line.decode().split()

    def round(self):
        """Nanoseconds of a call; infinite where the two threads never ran at the same time."""
        return float(self.ask(b"r")[0])

    def text(self):
        """The function's first bytes."""
        return self.ask(b"t")[0]

    def finish(self):
        """Undoes the setup: calls made; those counted in the program, -1 where nobody does; whether handlers
        may use vector registers: 0, 1, or -1 where there are none."""
        return [int(word) for word in self.ask(b"d")]

    def end(self):
        """Closes its commands, which ends it, and waits."""
        if self.command is not None:
            os.close(self.command)
            self.command = None
        try:
            self.process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

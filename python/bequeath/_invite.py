"""`invite`: shared objects for a program that this one starts, in Rust for instance."""

from . import _engine


def invite(*objects: object) -> _engine.Packed:
    """Make shared objects ready for a program of another language that this one starts.

    Hand `text` to it in an argument and `descriptors` by `pass_fds`. There `Session::accept` of the
    crate `bequeath` joins the session and gives the objects back, in order. What it puts into a
    queue as plain data is plain data here, and the other way round. The objects live as long as
    the invitation does, at least; one invitation serves one program.

        invitation = bequeath.invite(tasks, results)
        subprocess.Popen(["worker", invitation.text], pass_fds=invitation.descriptors)
    """
    return _engine.pack(objects)

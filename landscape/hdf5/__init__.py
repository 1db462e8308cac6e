"""HDF5 files of ours: written with a digest, and read so that no file can do anything but hold numbers.

A file is taken apart by `landscape.hdf5.extract` in a process of its own (`landscape.hdf5.worker`): whatever
the HDF5 library does with a damaged or a malicious file (loops, crashes, asks for all memory), it does there.
What comes back is a `Tree` of plain numbers and texts; `landscape.hdf5.fields` reads them by a schema.
"""

from landscape.hdf5.read import read_tree
from landscape.hdf5.seal import write_sealed
from landscape.hdf5.tree import MalformedError, Tree

__all__ = ["MalformedError", "Tree", "read_tree", "write_sealed"]

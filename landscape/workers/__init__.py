"""Work that goes to other processes, on this machine or others: anyone's executor, or a Dask cluster.

What a computation is made of is sent once and kept there (`there`); afterwards only items of work travel,
such as coordinates, and what they give. No scheduler is written here: an executor or Dask has one.
"""

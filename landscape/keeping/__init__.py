"""Keeping what was computed, alike for everything that takes long.

``settings`` says whether an earlier result may be gone on with, ``lock`` who writes an output, ``pace`` how
often it is saved, ``signals`` what Ctrl-C and its like do. ``keeper`` joins the last three around any work,
``points`` drives work that consists of points, ``partial`` keeps an unfinished state beside the result that
it becomes. Needs no torch.
"""

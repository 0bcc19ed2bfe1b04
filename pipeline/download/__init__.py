"""From a video's id to a file that passed the integrity check, or to the reason why there is
none.
"""

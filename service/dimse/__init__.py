"""The DIMSE entrance: processes that answer C-ECHO and C-STORE and put what arrives, checked, into the inbox.

They parse foreign bytes, so they limit themselves like the intake's children, and the service believes nothing they write
before it has checked it.
"""

"""What this software says of itself to other systems: DICOM conformance statement and IHE integration statement.

Every table is made from the objects that the service runs with (presentation contexts, statuses, settings, codes, search keys),
so a statement cannot fall behind the code. Tests compare it with what a running service does.
"""

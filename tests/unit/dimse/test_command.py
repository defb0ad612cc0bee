"""Command sets against pynetdicom's own encoder and decoder."""

from __future__ import annotations

import io

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import P_DATA_TF

from service.dimse import command


def request(**elements: object) -> bytes:
    ds = Dataset()
    ds.CommandGroupLength = 0
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    encoded = encode(ds, True, True)
    assert encoded is not None
    return encoded


def test_a_store_request_is_read() -> None:
    found = command.parse(
        request(
            AffectedSOPClassUID="1.2.840.10008.5.1.4.1.1.2",
            CommandField=1,
            MessageID=7,
            Priority=0,
            CommandDataSetType=1,
            AffectedSOPInstanceUID="1.2.3",
        )
    )
    assert found == command.Command(1, 7, True, "1.2.840.10008.5.1.4.1.1.2", "1.2.3")


def test_a_report_request_is_read() -> None:
    found = command.parse(
        request(CommandField=0x100, MessageID=3, CommandDataSetType=1, EventTypeID=2, AffectedSOPClassUID="1.2")
    )
    assert (found.field, found.event_type, found.sop_class, found.sop_instance) == (0x100, 2, "1.2", "")


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\0\0\0\0\4\0\0\0",
        b"\0\0\2\0\xff\xff\xff\x7f1.2",
        b"\x08\0\0\1\2\0\0\0\1\0",
        request(CommandField=1, MessageID=1),
        request(MessageID=1, CommandDataSetType=1),
        request(CommandField=1, CommandDataSetType=1),
    ],
)
def test_what_is_no_command_set_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        command.parse(data)


def test_a_malformed_identifier_reads_as_none() -> None:
    data = request(CommandField=1, MessageID=1, CommandDataSetType=1)
    data += b"\0\0\x00\x10\x08\0\0\0../../x\0"
    assert command.parse(data).sop_instance == ""


def test_a_response_reads_as_what_was_meant() -> None:
    asked = command.Command(1, 9, True, "1.2.840.10008.5.1.4.1.1.2", "1.2.3")
    answer = command.Answer(0xA900, "a\\b" + "x" * 80, ((0x0020, 0x000D),))
    pdu = P_DATA_TF()
    pdu.decode(command.pdu(5, command.response(asked, answer)))
    [item] = pdu.presentation_data_value_items
    assert item.presentation_context_id == 5 and item.message_control_header_byte == "00000011"
    data = item.presentation_data_value[1:]
    ds = decode(io.BytesIO(data), True, True)
    assert ds.CommandGroupLength == len(data) - 12
    assert (ds.CommandField, ds.MessageIDBeingRespondedTo, ds.CommandDataSetType) == (0x8001, 9, 0x0101)
    assert (ds.AffectedSOPClassUID, ds.AffectedSOPInstanceUID) == ("1.2.840.10008.5.1.4.1.1.2", "1.2.3")
    assert ds.Status == 0xA900 and ds.OffendingElement == 0x0020000D
    assert ds.ErrorComment == "a/b" + "x" * 61
    assert [element.tag.element for element in ds] == sorted(element.tag.element for element in ds)


def test_a_success_says_no_more_than_it_must() -> None:
    ds = decode(
        io.BytesIO(command.response(command.Command(0x30, 1, False, "1.2.840.10008.1.1"), command.Answer())), True, True
    )
    assert (
        ds.Status == 0
        and "ErrorComment" not in ds
        and "OffendingElement" not in ds
        and "AffectedSOPInstanceUID" not in ds
    )

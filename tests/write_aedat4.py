"""Writes AEDAT 4 to its specification, as no package at hand does: for tests.

Flatbuffers laid out by hand, as in the files of DV: a header `IOHE`, and packets `EVTS`
of events of 16 bytes.
"""

import struct

import numpy as np

_STRUCT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?"), ("_", "V3")])
_STREAM = """<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">
{}</node></dv>"""
_CAMERA = """<node name="{0}" path="/mainloop/Recorder/outInfo/{0}/">
<attr key="compression" type="string">NONE</attr>
<attr key="originalModuleName" type="string">capture</attr>
<attr key="originalOutputName" type="string">events</attr>
<attr key="typeDescription" type="string">Array of events.</attr>
<attr key="typeIdentifier" type="string">EVTS</attr>
<node name="info" path="/mainloop/Recorder/outInfo/{0}/info/">
<attr key="sizeX" type="int">{2}</attr><attr key="sizeY" type="int">{1}</attr>
<attr key="source" type="string">TEST</attr></node></node>"""


def aedat4_header(sensor_size=(128, 128), cameras=(0,), compression=0):
    """Return the first line and the header of a file."""
    streams = "".join(_CAMERA.format(camera, *sensor_size) for camera in cameras)
    text = _STREAM.format(streams).encode()
    table = struct.pack(
        "<I4sHHHHHxxiiIq", 20, b"IOHE", 10, 20, 4, 12, 8, 12, compression, 12, -1
    )
    table += struct.pack("<I", len(text)) + text + b"\0"
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(table)) + table


def aedat4_table(events):
    """Return the content of a packet of events."""
    elements = np.zeros(len(events), _STRUCT)
    for name in "txyp":
        elements[name] = events[name]
    table = struct.pack("<I4sHHHxxiIxxxxI", 16, b"EVTS", 6, 8, 4, 8, 8, len(events))
    table += elements.tobytes()
    return struct.pack("<I", len(table)) + table


def aedat4_packet(content, stream=0):
    """Return a packet with this content."""
    return struct.pack("<ii", stream, len(content)) + content


def aedat4_bytes(events, packet_events=4096, **header):
    """Return a whole file."""
    packets = [
        aedat4_packet(aedat4_table(events[first : first + packet_events]))
        for first in range(0, len(events), packet_events)
    ]
    return aedat4_header(**header) + b"".join(packets)

"""Decode an AEDAT 4 file in a process of its own: `aedat` aborts on damaged files.

    python -m keras_qkformer.events.aedat4_process FILE

The process writes to standard output: the number of cameras (`COUNT`), or `NO_PACKAGE`;
the stream, height and width of each (`CAMERA`); for each packet its stream and size in
bytes (`PACKET`) and its events in `EVENT_DTYPE`, none for packets without events; and
`END`.
"""

import sys

import numpy as np

from keras_qkformer.child_process import limit_memory
from keras_qkformer.events.aedat4 import CAMERA, COUNT, END, NO_PACKAGE, PACKET
from keras_qkformer.events.event_array import EVENT_DTYPE

# A packet of 33 kB can hold a gigabyte of events; `aedat` takes memory for it at once.
_MOST_BYTES = 1 << 29


def main(path, out):
    """Write the events of a file.

    Args:
        path: str. An AEDAT 4 file.
        out: binary file object to write to.
    """
    try:
        import aedat  # An extra.
    except ModuleNotFoundError:
        out.write(COUNT.pack(NO_PACKAGE))
        return
    limit_memory(_MOST_BYTES)
    decoder = aedat.Decoder(path)
    streams = decoder.id_to_stream()
    cameras = {n: s for n, s in streams.items() if s["type"] == "events"}
    out.write(COUNT.pack(len(cameras)))
    for number, stream in cameras.items():
        out.write(CAMERA.pack(number, stream["height"], stream["width"]))
    for packet in decoder:
        found = packet["events"] if packet["stream_id"] in cameras else []
        events = np.empty(len(found), EVENT_DTYPE)
        for ours, theirs in zip("txyp", ("t", "x", "y", "on"), strict=True):
            if len(found):
                events[ours] = found[theirs]
        out.write(PACKET.pack(packet["stream_id"], events.nbytes))
        out.write(events.tobytes())
        out.flush()  # At the next packet, `aedat` may abort.
    out.write(PACKET.pack(*END))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdout.buffer)

"""The process that decodes an AEDAT 4 file: `aedat` aborts on some damaged ones.

    python -m keras_qkformer.events.aedat4_process FILE

To standard output it writes the number of cameras (`COUNT`); the stream, height and
width of each (`CAMERA`); then for each packet its stream and size in bytes (`PACKET`)
and its events in `EVENT_DTYPE`, none for other packets; and at last `END`.
"""

import sys

import numpy as np

from keras_qkformer.events.aedat4 import CAMERA, COUNT, END, PACKET
from keras_qkformer.events.event_array import EVENT_DTYPE


def main(path, out):
    """Write the events of a file.

    Args:
        path: str. An AEDAT 4 file.
        out: binary file object.
    """
    import aedat  # An extra; the parent process has made sure that it is installed.

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
    out.write(PACKET.pack(*END))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdout.buffer)

"""Fuzz the reader of AEDAT 4 part by part: packets, compression, tables, header.

As `recordings.py`, but with knowledge of the format: packets change places, sizes and
streams; frames of LZ4 and Zstandard are damaged, lie about their size, or inflate
without end; offsets and lengths of FlatBuffers lead elsewhere; the XML of the header is
nested, repeated, cut, and names other sensors. Decoders are forks, see
`forked_decoder`.
"""

import struct
import sys

import aedat  # noqa: F401  Imported once, not in each fork.
import fuzzing
from forked_decoder import forked_decoders
from fuzz import recordings
from write_aedat4 import aedat4_header, aedat4_table

from keras_qkformer.events import aedat4, aedat4_process

PACKET_EVENTS = (1, 2, 5, 64)
COMPRESSIONS = {0: "none", 1: "lz4", 2: "lz4", 3: "zstd", 4: "zstd"}
OTHER_KINDS = (b"FRME", b"IMUS", b"TRIG", b"XXXX", b"\0\0\0\0")
# Parts of the header's XML, and what stands in their place.
XML_CHANGES = (
    (b">128<", (b">0<", b">-1<", b">99999999999<", b">1e3<", b"><", b">128 <")),
    (b">EVTS<", tuple(b">" + kind + b"<" for kind in OTHER_KINDS)),
    (b"<node", (b"<node" * 9, b"<nod", b"<!-- <node", b"<node x='&lt;'")),
    (b"</node>", (b"", b"</node></node>", b"</dv>", b"<![CDATA[")),
    (b'type="int"', (b'type="long"', b"", b'type="int" type="int"', b"type=int")),
    (b'name="0"', (b'name="1"', b'name="-1"', b'name="99999999999"', b'name=""')),
    (b"sizeX", (b"sizeY", b"size", b"\xff\xfe", b"sizeX\0")),
    (b"<dv", (b"<a>" * 5000 + b"<dv", b"<!DOCTYPE d [<!ENTITY a 'b'>]><dv", b"")),
)
BOMB_ENTITIES = b"<!DOCTYPE d [<!ENTITY a0 'b'>%s]><dv x='&a20;' " % b"".join(
    b"<!ENTITY a%d '%s'>" % (i, b"&a%d;" % (i - 1) * 10) for i in range(1, 21)
)


def decode(command, out):
    """What the process of a decoder does."""
    aedat4_process.main(command[-1], out)


def lz4_frame(data, random=None):
    """An LZ4 frame of literals; with `random`, one of a match of any length too."""
    block = bytearray()
    if random is not None:  # A literal, then itself again and again.
        more = random.choice((1, 255, 70_000, 4_000_000)) // 255
        block += b"\x1f" + data[:1] + b"\x01\x00" + b"\xff" * more + b"\0"
    more, last = divmod(len(data) - 15, 255)
    if more < 0:
        block += bytes([len(data) << 4]) + data
    else:
        block += b"\xf0" + b"\xff" * more + bytes([last]) + data
    magic = b"\x04\x22\x4d\x18\x60\x70\x73"  # Blocks of at most 4 MiB, no checksums.
    return magic + struct.pack("<I", len(block)) + bytes(block) + bytes(4)


def zstd_frame(data, random=None):
    """A Zstandard frame of a raw block; with `random`, of repeated bytes before it."""
    blocks, size = [], len(data)
    if random is not None:
        for _ in range(random.choice((1, 8, 3000))):
            blocks.append((1 << 17 << 3 | 1 << 1).to_bytes(3, "little") + data[:1])
            size += 1 << 17
    blocks.append((len(data) << 3 | 1).to_bytes(3, "little") + data)
    said = size if random is None else random.choice((size, len(data), 2**32 - 1))
    head = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", said % 2**32)
    return head + b"".join(blocks)


FRAMES = {"none": lambda data, random=None: data, "lz4": lz4_frame, "zstd": zstd_frame}


def write(random, events, compression, size):
    """A whole file as parts: its header and, of each packet, `(stream, content)`."""
    frame = FRAMES[COMPRESSIONS[compression]]
    packets = [
        (0, frame(aedat4_table(events[first : first + size])))
        for first in range(0, len(events), size)
    ]
    return aedat4_header(compression=compression), packets


def joined(header, packets):
    """The bytes of a file, and of each packet the byte behind it."""
    content, ends = bytearray(header), []
    for packet in packets:
        stream, inside, *size = packet
        size = size[0] if size else len(inside)
        content += struct.pack("<ii", stream, size) + inside
        ends.append(len(content))
    return bytes(content), ends


def odd_number(random, value, width):
    """A number of some bytes that is off, near or far."""
    other = random.choice((value - 1, value + 1, -value, *recordings.EXTREMES))
    return (other % 256**width).to_bytes(width, "little")


def change_word(random, data, first, last):
    """Change one number in a part of a table."""
    width = random.choice((2, 4, 4, 8))
    place = random.randrange(first, max(first + 1, min(last, len(data) - width)), 2)
    value = int.from_bytes(data[place : place + width], "little")
    return data[:place] + odd_number(random, value, width) + data[place + width :]


def change_table(random, data, compression):
    """A packet whose FlatBuffer leads elsewhere, compressed as it should be."""
    for _ in range(random.randrange(1, 4)):
        # Size, root, name, vtable, table, vector; then events.
        data = change_word(random, data, 0, random.choice((40, 40, len(data))))
    if random.randrange(5) == 0:
        data = data[:8] + random.choice(OTHER_KINDS) + data[12:]
    return FRAMES[COMPRESSIONS[compression]](data)


def change_xml(random, header):
    """A header whose XML is another; its lengths are right or as they were."""
    start = header.index(b"<dv")
    before, text = header[:start], header[start:]
    for _ in range(random.randrange(1, 4)):
        match random.randrange(8):
            case 0:
                text = text.replace(b"<dv", BOMB_ENTITIES, 1)
            case 1:
                place = random.randrange(len(text))
                text = text[:place] + text[place:][: random.randrange(60)]
            case 2:
                text = recordings.mutate(random, text, text)
            case _:
                old, new = random.choice(XML_CHANGES)
                count = random.choice((1, -1))
                text = text.replace(old, random.choice(new), count)
    if random.randrange(4):  # Its own length, and that of the table around it.
        first = len(b"#!AER-DAT4.0\r\n")
        whole = len(before) - first - 4 + len(text)
        before = before[:first] + struct.pack("<I", whole) + before[first + 4 : -4]
        before += struct.pack("<I", max(0, len(text) - 1))
    return before + text


def change_packets(random, packets):
    """Packets that are exchanged, repeated, of another stream, size or kind."""
    packets, which = list(packets), random.randrange(len(packets))
    stream, content = packets[which]
    match random.randrange(6):
        case 0:
            other = random.randrange(len(packets))
            packets[which], packets[other] = packets[other], packets[which]
        case 1:
            packets[which:which] = [packets[which]] * random.choice((1, 3, 200))
        case 2:
            packets[which] = (random.choice((-1, 1, 2, 2**31 - 1, -(2**31))), content)
        case 3:
            sizes = (0, -1, -(2**31), 2**31 - 1, len(content) - 1, len(content) + 1)
            packets[which] = (stream, content, random.choice(sizes))
        case 4:
            inside = random.choice((b"", bytes(8), random.randbytes(30), b"\xff" * 40))
            packets.insert(which, (random.choice((0, 1)), inside))
        case 5:
            del packets[which]
    return packets


def damaged_parts(random, header, packets, events, compression):
    """One kind of damage, by what it changes: header and packets."""
    packets, which = list(packets), random.randrange(len(packets))
    stream, content = packets[which]
    table = aedat4_table(events)
    frame = FRAMES[COMPRESSIONS[compression]]
    match random.randrange(8):
        case 0:
            return change_xml(random, header), packets
        case 1:  # The header's own table, with its compression and its position.
            return change_word(random, header, 14, 70), packets
        case 2:
            return header, change_packets(random, packets)
        case 3 | 4:
            packets[which] = stream, change_table(random, table, compression)
        case 5 if compression:  # Frames, of their magic, sizes, blocks and ends.
            content = change_word(random, content, 0, random.choice((30, len(content))))
            packets[which] = stream, content
        case 5:
            packets[which] = stream, recordings.mutate(random, content, header)
        case 6:  # Another compression than the header says, or twice.
            other = random.choice([*FRAMES.values()])
            packets[which] = stream, other(frame(table))
        case 7:
            packets[which] = stream, frame(table, random)
            if random.randrange(3) == 0:
                packets[which] = stream, content + packets[which][1]
    return header, packets


def case(random, folder):
    """One file: its compression, and whether it was whole, cut or refused."""
    events = recordings.draw_events(random, "aedat4")
    compression, size = random.choice([*COMPRESSIONS]), random.choice(PACKET_EVENTS)
    header, packets = write(random, events, compression, size)
    content, ends = joined(header, packets)
    behind = [end for end in ends for _ in range(size)][: len(events)]
    kind = random.randrange(10)
    if kind == 0:
        damaged = content
    elif kind == 1:
        damaged = recordings.mutate(random, content, content)
    else:
        damaged, _ = joined(
            *damaged_parts(random, header, packets, events, compression)
        )
        if random.randrange(4) == 0:
            damaged = recordings.mutate(random, damaged, content)
    with forked_decoders(random, aedat4.subprocess, decode):
        damage = recordings.check_damaged(
            random, "aedat4", events, behind, content, damaged, events_per_byte=16
        )
    return f"{COMPRESSIONS[compression]} {damage}"


def main(arguments=None):
    """Run the fuzzer; see `fuzzing.main`."""
    return fuzzing.main(case, arguments)


if __name__ == "__main__":
    sys.exit(main())

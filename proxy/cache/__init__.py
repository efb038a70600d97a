"""The stapling cache in shared memory: shmcb's shape, LRU or FIFO, one writer, readers without locks.

Who does what. The master makes the `segment.Segment` and forks. The keeper is the one `writer.CacheWriter`. Each worker
has a `reader.CacheReader`, asked in every handshake. Whoever wants to look on (`figures`, `entries`) may, from any
process, even with the file mapped for reading only. None of them ever waits for another.

How a reader knows that what it copied is whole. Each subcache has a sequence number, odd while it is written. A reader
takes the number, copies, takes it again: odd or changed, it tries again, a bounded number of times, and then has
nothing to staple. In addition each entry has a checksum over key, times and response, which decides where the sequence
cannot: after a crash of the machine, a bad disk, or on processors that show another's stores out of order.

How the writer may die anywhere. Every store into the segment leaves each entry either whole or with a wrong checksum,
so there is nothing to roll back: readers miss while the sequence is odd, and the next writer drops what is not whole
and makes the number even. The bytes of a response go to where no entry points, or are written under an odd number.

What goes when room is needed. `lru`: the expired, then the one stapled longest ago. `fifo`: the one stored longest ago,
however busy, as Apache's ring does, with its counting to the last exception; this is for who must behave as Apache.

What readers write. Each counts hits and misses on a line of its own. Of an entry they write, on a line that holds
nothing else, when it was last stapled, how often, and that it was found over: words that several write at once, where
any of the values written is good enough. Hits of one second are written together (`CacheReader.tell`).

What a file proves. Nothing: after `Segment.distrust` what an earlier run left is not served until the keeper, which
has verified it again, vouches for it entry by entry.
"""

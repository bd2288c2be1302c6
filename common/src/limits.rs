//! Every bound of the product in one table, with its unit and why it is that large. A bound is checked before the memory
//! it would need is allocated.

/// Bytes of one encoded batch on the wire. An agent's flush is a few kB; an event storm is split.
pub const BATCH_FRAME_BYTES_MAX: usize = 4 << 20;
/// Bytes of one batch after decompression; a ratio above this is a bomb.
pub const BATCH_RAW_BYTES_MAX: usize = 8 << 20;
/// Bytes of all batches of one push after decompression.
pub const PUSH_RAW_BYTES_MAX: usize = 16 << 20;
/// Memory that a decoded batch may take for each of its raw bytes: many short tags are the worst case, measured at 19.
pub const DECODED_BYTES_PER_RAW: usize = 20;
/// Bytes that decoding one batch may claim in memory (bincode counts `len * size_of::<T>()`).
pub const BATCH_DECODE_BYTES_MAX: usize = 64 << 20;
/// Bytes of one push: several batches of a backlog in one request.
pub const PUSH_BYTES_MAX: usize = 8 << 20;
/// Raw bytes of a push that is told as a difference: held as one piece at both ends. What is more goes whole.
pub const DIFFERENCE_RAW_BYTES_MAX: usize = 1 << 20;
/// Raw bytes of what was acknowledged that both ends keep, so that the next push may be told as a difference to it: at least,
/// since batches take turns and a few of them find each its like; at most, for hosts of some thousand series.
pub const BASE_BYTES_MIN: usize = 32 << 10;
/// See [`BASE_BYTES_MIN`].
pub const BASE_BYTES_MAX: usize = 256 << 10;
/// Memory for what the aggregator keeps of all agents for that, compressed: of 10,000 it takes some 30 MiB.
pub const BASES_BYTES_MAX: usize = 64 << 20;
/// Batches in one push.
pub const PUSH_FRAMES_MAX: usize = 256;
/// Declared gaps in one push.
pub const PUSH_DROPPED_MAX: usize = 1_024;
/// Ranges that one push says will come with another; an agent needs one.
pub const PUSH_WAITING_MAX: usize = 64;
/// Ranges of one stream that may be settled beyond its cursor.
pub const STREAM_RANGES_MAX: usize = 1_024;

/// Bytes of a metric's name.
pub const METRIC_ID_BYTES_MAX: usize = 256;
/// Tags of one series, `host` included.
pub const TAGS_MAX: usize = 64;
/// Bytes of a tag's name.
pub const TAG_NAME_BYTES_MAX: usize = 128;
/// Bytes of a tag's value.
pub const TAG_VALUE_BYTES_MAX: usize = 2_048;
/// Series in one batch.
pub const BATCH_SERIES_MAX: usize = 100_000;
/// Samples in one batch.
pub const BATCH_SAMPLES_MAX: usize = 1_000_000;
/// Key records, events or gap records in one batch, each.
pub const BATCH_RECORDS_MAX: usize = 10_000;
/// Bytes of any one text field of a key record or an event.
pub const TEXT_BYTES_MAX: usize = 4_096;
/// Names in one certificate that are kept; a certificate with more keeps the first and says how many there were.
pub const SANS_MAX: usize = 100;
/// Uses, or weaknesses, of one key that are kept.
pub const KEY_USAGES_MAX: usize = 32;
/// Lines of one revocation list that travel. Lists of private authorities stay below; of larger ones only the own host's keys
/// are looked up.
pub const REVOKED_MAX: usize = 1_000;
/// Bytes of a revocation list that the aggregator fetches. The largest of public authorities have some 20 MiB.
pub const CRL_BYTES_MAX: usize = 64 << 20;
/// Lines of one revocation list that are looked up, at 16 bytes each: the largest lists of public authorities.
pub const CRL_LINES_MAX: usize = 2_000_000;
/// Configurations that name one key file, of those that are kept.
pub const PLACE_USERS_MAX: usize = 16;
/// Certificates beside the leaf that one port serves; real chains have two or three.
pub const SERVED_CHAIN_MAX: usize = 10;
/// Listening ports of one host that are looked at; the rest is reported as not looked at.
pub const SERVED_PORTS_MAX: usize = 512;
/// Names that one port is asked for.
pub const SERVED_NAMES_MAX: usize = 64;
/// Names that one port is asked for where TLS begins by agreement: each costs its server a line of its log.
pub const SERVED_NAMES_AGREED_MAX: usize = 8;
/// Bytes that one port may say before it is hung up on: a handshake with ten certificates of 4 kB is a fifth of that.
pub const SERVED_ANSWER_BYTES_MAX: usize = 256 << 10;
/// Evidence lines of one event.
pub const EVIDENCE_MAX: usize = 32;

/// Bytes of a key file that are read. Real bundles of CA certificates stay under 1 MiB.
pub const KEY_FILE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of a file by which it is told whether it may hold keys: text may stand before the first.
pub const KEY_SNIFF_BYTES: usize = 64 << 10;
/// Key objects taken from one file; the largest CA bundles hold some 150.
pub const KEYS_PER_FILE_MAX: usize = 2_000;
/// Rounds of hashing that are done to open one key store with the passwords configured for it: about ten seconds of one core. Java asks
/// for 10,000 a key, NSS and GnuTLS for 600,000.
pub const KEY_FILE_ITERATIONS_MAX: u64 = 20_000_000;
/// Bytes of a file that holds a password.
pub const PASSWORD_FILE_BYTES_MAX: u64 = 4_096;
/// Bytes of a list of weak keys that are read; Debian's have 2 MB.
pub const BLACKLIST_BYTES_MAX: u64 = 16 << 20;
/// Key objects that one agent keeps track of; the rest of what lies below the configured paths is reported as not looked at.
pub const KEYSTORE_KEYS_MAX: usize = 20_000;
/// Bytes of an SSH key's comment: a name, not a document.
pub const SSH_COMMENT_BYTES_MAX: usize = 256;
/// Lines of all revocation lists of one host that are looked up, 16 bytes each.
pub const KEYSTORE_REVOKED_MAX: usize = 500_000;
/// Files that one keystore scan visits.
pub const KEYSTORE_FILES_MAX: usize = 50_000;
/// Names of one file (hard links) that are told, each as a place.
pub const KEYSTORE_FILE_NAMES_MAX: usize = 16;
/// Bytes of a file's access control list that are read: 512 entries. Of a longer one it is not known whom it lets in.
pub const ACL_BYTES_MAX: usize = 4 + 512 * 8;
/// Directory levels below a configured path.
pub const KEYSTORE_DEPTH_MAX: usize = 12;
/// Homes of users in which keys are looked for: a host with more has them on a server.
pub const KEYSTORE_HOMES_MAX: usize = 1_000;
/// Seconds after which a look at the key files ends; what is left is looked at first the next time.
pub const KEYSTORE_SCAN_SECONDS_MAX: u64 = 20;
/// Configuration files that are read for the key files they name.
pub const KEYSTORE_CONFIGS_MAX: usize = 2_000;
/// Bytes of one of them.
pub const KEYSTORE_CONFIG_BYTES_MAX: u64 = 1 << 20;
/// How deep they may include each other: as deep as the programs that have a bound allow.
pub const KEYSTORE_INCLUDES_MAX: usize = 20;
/// Paths that they may name.
pub const KEYSTORE_NAMED_MAX: usize = 4_000;
/// Containers whose files are looked at.
pub const KEYSTORE_CONTAINERS_MAX: usize = 64;
/// Keys that one look tells of only because they are there; the others are told by the next ones. What happened is told at once.
pub const KEYSTORE_SIGHTINGS_MAX: usize = 2_000;
/// Directories that are watched for changes; each takes about 1 kB of the kernel's memory. Others wait for the next scan.
pub const KEYSTORE_WATCHES_MAX: usize = 8_192;
/// Certificates of one host whose end is a series of its own; those that end soonest come first.
pub const KEY_EXPIRY_SERIES_MAX: usize = 2_000;

/// Bytes of a configuration file.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a JSON request to the API.
pub const JSON_BODY_BYTES_MAX: usize = 8 << 20;
/// Bytes of one remote write request as it is sent: Prometheus sends some 100 kB, tools that catch up some MB.
pub const REMOTE_WRITE_BYTES_MAX: usize = 16 << 20;
/// Bytes of one remote write request after decompression.
pub const REMOTE_WRITE_RAW_BYTES_MAX: usize = 64 << 20;
/// Bytes of one OTLP request as it is sent; a collector's batch is some 100 kB.
pub const OTLP_BYTES_MAX: usize = 16 << 20;
/// Bytes of one OTLP request in protobuf after decompression.
pub const OTLP_RAW_BYTES_MAX: usize = 64 << 20;
/// Bytes of one OTLP request in JSON after decompression: as a tree it takes many times that.
pub const OTLP_JSON_BYTES_MAX: usize = 16 << 20;
/// Buckets of one native or exponential histogram; each becomes a series. Senders limit themselves to some 160.
pub const HISTOGRAM_BUCKETS_MAX: usize = 1_024;
/// Metrics in one JSON push.
pub const JSON_METRICS_MAX: usize = 50_000;
/// Series that a refusal names; the others are counted.
pub const REJECTED_NAMED_MAX: usize = 10;
/// Bytes of a metric pattern.
pub const PATTERN_BYTES_MAX: usize = 1_024;

/// Points one query may return, over all its series.
pub const QUERY_POINTS_MAX: usize = 1_000_000;
/// Samples one query may read.
pub const QUERY_SAMPLES_MAX: usize = 50_000_000;
/// Series one query may touch.
pub const QUERY_SERIES_MAX: usize = 200_000;
/// Rows of one page of a listing.
pub const PAGE_ROWS_MAX: usize = 1_000;

/// Earliest instant a sample may carry, Unix ms: 2000-01-01. Earlier clocks are unset clocks.
pub const TIMESTAMP_MS_MIN: i64 = 946_684_800_000;
/// How far ahead of the aggregator's clock a pushed sample may be, ms.
pub const FUTURE_MS_MAX: i64 = 10 * 60 * 1_000;

/// Series that an aggregator can hold, all tenants together, whatever its `[limits]` allow.
pub const SERIES_MAX: usize = 2_000_000;
/// Memory for pushes being read and worked on at once; beyond it agents are told to come back.
pub const INGEST_INFLIGHT_BYTES_MAX: usize = 512 << 20;
/// Connections per listener.
pub const CONNECTIONS_MAX: usize = 16_384;

/// Trials of a canary that one ack confirms; of a backlog the newest are enough.
pub const CANARY_PROOFS_MAX: usize = 64;

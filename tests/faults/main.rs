//! The experiments of the fault matrix: real senders and aggregators, a fault, and the judgement of the oracle when it is over.
//! `KEYVIGIL_FAULTS=full` makes them as long as the matrix says.

#![expect(clippy::print_stdout, reason = "each experiment prints what it found, for the documentation to quote")]

mod absence;
mod broken;
mod certificates;
mod client;
mod copies;
mod damage;
mod disks;
mod handles;
#[expect(dead_code, reason = "the tests of certificates use all of it")]
#[path = "../tests/certs/host.rs"]
mod host;
mod io;
mod kills;
mod packets;
mod power;
mod repeats;
mod server;
mod slow;
mod space;
mod stage;
mod time;
mod versions;
mod ways;
mod world;

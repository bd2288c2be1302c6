//! The experiments of the fault matrix: real senders and aggregators, a fault, and the judgement of the oracle when it is over.
//! `KEYVIGIL_FAULTS=full` makes them as long as the matrix says.

mod certificates;
mod copies;
#[expect(dead_code, reason = "the tests of certificates use all of it")]
#[path = "../tests/certs/host.rs"]
mod host;
mod repeats;
mod server;
mod stage;
mod time;
mod versions;
mod ways;

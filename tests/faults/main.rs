//! The experiments of the fault matrix: real senders and aggregators, a fault, and the judgement of the oracle when it is over.
//! `KEYVIGIL_FAULTS=full` makes them as long as the matrix says.

#![expect(clippy::print_stdout, reason = "each experiment prints what it found, for the documentation to quote")]

mod absence;
mod damage;
mod disks;
mod handles;
mod io;
mod kills;
mod power;
mod space;
mod world;

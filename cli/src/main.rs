//! `keyvigil`: the operator's command line. One command a function; the API does the work.

mod args;
mod ask;
mod events;
mod findings;
mod fleet;
mod keys;
mod layout;
mod print;
mod up;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use keyvigil_common::client::Client;
use keyvigil_common::process;

use args::{Cli, Command, Global, Output};
use print::{Failed, failed};

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    keyvigil_common::tls::install_provider();
    process::runtime(1, async move { run(global, command).await.unwrap_or_else(|failed| failed.report()) })
}

async fn run(global: Global, command: Command) -> Result<ExitCode, Failed> {
    let output = global.output;
    if output == Output::Csv && !matches!(&command, Command::Keys(keys) if keys.command.is_none() && keys.usage.is_none()) {
        return Err(Failed::new(2, "--output csv is for the list of keys only: `keyvigil keys --output csv`"));
    }
    if let Command::Up(args) = command {
        return up::up(args, output).await;
    }
    let client = client(&global)?;
    if let Command::Watch(args) = command {
        return watch::watch(&client, args, output).await;
    }
    match command {
        Command::Up(_) | Command::Watch(_) => {}
        Command::Status => ask::status(&client, output).await?,
        Command::Query(args) => ask::query(&client, args, output).await?,
        Command::Keys(args) => keys::keys(&client, args, output).await?,
        Command::Findings(args) => findings::findings(&client, args, output).await?,
        Command::Hosts { command: None } => ask::hosts(&client, output).await?,
        Command::Hosts { command: Some(command) } => fleet::hosts(&client, command, output).await?,
        Command::Events(args) => events::events(&client, args, output).await?,
        Command::Alerts(args) => ask::alerts(&client, args, output).await?,
        Command::Gaps(args) => ask::gaps(&client, args, output).await?,
        Command::Token(command) => ask::token(&client, command, output).await?,
        Command::Agents(command) => fleet::agents(&client, command, output).await?,
        Command::Enhance(args) => fleet::enhance(&client, args, output).await?,
        Command::Ca(command) => fleet::ca(&client, command, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn client(global: &Global) -> Result<Client, Failed> {
    let token = token(global)?;
    match &global.ca_file {
        None => Client::new(&global.url, token.as_deref()),
        Some(path) => {
            let ca = std::fs::read(path).map_err(|e| Failed::new(2, format!("cannot read the CA file {}: {e}", path.display())))?;
            Client::with_ca(&global.url, token.as_deref(), &ca)
        }
    }
    .map_err(failed)
}

/// The admin token: from the file that was named, else from the environment. Never from the command line.
fn token(global: &Global) -> Result<Option<String>, Failed> {
    match &global.token_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| Failed::new(2, format!("cannot read the token file {}: {e}", path.display())))?;
            Ok(Some(text.trim().to_owned()))
        }
        None => Ok(std::env::var("KEYVIGIL_TOKEN").ok().filter(|t| !t.is_empty())),
    }
}

//! The commands about agents and their certificates: who is enrolled, revocation, looking closely, replacing the CA.

use keyvigil_common::client::Client;
use keyvigil_common::process::say;
use serde_json::Value;

use crate::args::{Agents, Ca, Enhance, Hosts, Output};
use crate::ask::{Done, as_json, rows};
use crate::layout::table;
use crate::print::{cell, clean, failed, relative, short, time};

pub(crate) async fn agents(client: &Client, command: Agents, output: Output) -> Done {
    match command {
        Agents::List => {
            let agents = client.agents().await.map_err(failed)?;
            if as_json(&agents, output) {
                return Ok(());
            }
            let now = client.status().await.map_err(failed)?["now"].as_i64().unwrap_or(0);
            let lines = rows(&agents["agents"], |agent| {
                vec![
                    cell(&agent["host"]),
                    cell(&agent["agent"]),
                    cell(&agent["state"]),
                    relative(&agent["last_seen"], now),
                    relative(&agent["certificate_expires"], now),
                    short(&cell(&agent["certificate_issuer"]), 9),
                ]
            });
            table(&["HOST", "AGENT", "STATE", "SEEN", "CERTIFICATE ENDS", "BY CA"], &lines);
        }
        Agents::Revoke { agent } => {
            let revoked = client.revoke_agent(&agent).await.map_err(failed)?;
            if !as_json(&revoked, output) {
                for agent in revoked["revoked"].as_array().into_iter().flatten() {
                    say(&format!("{} (agent {}) is revoked: it is refused from now on, and keeps its data", cell(&agent["host"]), cell(&agent["agent"])));
                }
            }
        }
    }
    Ok(())
}

pub(crate) async fn hosts(client: &Client, Hosts::Remove { host }: Hosts, output: Output) -> Done {
    let removed = client.remove_host(&host).await.map_err(failed)?;
    if !as_json(&removed, output) {
        say(&format!("{} is taken out, with {} places of keys; its samples and events stay", cell(&removed["removed"]), cell(&removed["keys"])));
    }
    Ok(())
}

pub(crate) async fn enhance(client: &Client, args: Enhance, output: Output) -> Done {
    if args.end {
        let ended = client.end_enhance(&args.host).await.map_err(failed)?;
        if !as_json(&ended, output) {
            say(&format!("{} is looked at as usual", cell(&ended["host"])));
        }
        return Ok(());
    }
    let sensors: Vec<&str> = args.sensor.iter().map(String::as_str).collect();
    let ordered = client.enhance(&args.host, args.minutes, &sensors).await.map_err(failed)?;
    if !as_json(&ordered, output) {
        let which = if sensors.is_empty() { "all sensors".to_owned() } else { clean(&sensors.join(", ")) };
        let host = cell(&ordered["host"]);
        let from = match ordered["state"].as_str() {
            Some("up") => "with its next push",
            _ => "when it is heard of again: it is silent now",
        };
        say(&format!("ordered: {host} looks closely until {}, {which}; it begins {from}", time(&ordered["until"])));
    }
    Ok(())
}

pub(crate) async fn ca(client: &Client, command: Ca, output: Output) -> Done {
    let status = match command {
        Ca::Status => client.ca().await,
        Ca::Announce => client.ca_step("announce", false).await,
        Ca::Issue => client.ca_step("issue", false).await,
        Ca::Retire { force } => client.ca_step("retire", force).await,
        Ca::Rollback { force } => client.ca_step("rollback", force).await,
    }
    .map_err(failed)?;
    if as_json(&status, output) {
        return Ok(());
    }
    let phase = status["phase"].as_str().unwrap_or_default();
    say(&format!("phase   {}, since {}", clean(phase), time(&status["since"])));
    let lines = rows(&status["cas"], |ca| {
        let role = if ca["issuing"] == true { "signs" } else { "trusted" };
        vec![cell(&ca["id"]), role.to_owned(), time(&ca["not_after"]), cell(&ca["fingerprint"])]
    });
    table(&["CA", "ROLE", "ENDS", "FINGERPRINT (SHA-256)"], &lines);
    let agents = &status["agents"];
    say(&format!(
        "agents  {} living, {} trust what they should, {} hold a certificate of the CA that signs",
        agents["living"], agents["confirmed"], agents["renewed"]
    ));
    waiting(client, &status).await?;
    say(match phase {
        "stable" => "next    `keyvigil ca announce` makes a successor, when you want one",
        "announce" => "next    wait until all have confirmed, then `keyvigil ca issue`; `keyvigil ca rollback` drops the new CA",
        "trust" => "next    all have confirmed: `keyvigil ca issue`; `keyvigil ca rollback` drops the new CA",
        _ => "next    once nobody is waited for, `keyvigil ca retire`; `keyvigil ca rollback` lets the old CA sign again",
    });
    Ok(())
}

/// Who holds up the next step.
async fn waiting(client: &Client, status: &Value) -> Done {
    let none = status["waiting_for"].as_array().is_none_or(Vec::is_empty);
    if none {
        return Ok(());
    }
    let now = client.status().await.map_err(failed)?["now"].as_i64().unwrap_or(0);
    let lines = rows(&status["waiting_for"], |w| vec![cell(&w["host"]), cell(&w["state"]), relative(&w["last_seen"], now), cell(&w["why"])]);
    table(&["WAITING FOR", "STATE", "SEEN", "WHY"], &lines);
    Ok(())
}

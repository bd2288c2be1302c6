//! Promise: an alert reaches the people, by mail and by Slack, whole and once the other side takes it; and what the other
//! side refuses, or someone on the way forges, is known as such.

use std::time::Duration;

use keyvigil_aggregator::alert::{Alert, Kind, Observation, Priority, Rule, State, Tick, Transition, step};
use keyvigil_aggregator::notify::{Channel, Notification, Notifier, SendError, SlackConfig, SmtpConfig, TlsMode, channels};
use keyvigil_common::config::Period;
use keyvigil_common::sample::Tags;
use keyvigil_tests::slack::{Answer, SlackServer};
use keyvigil_tests::smtp::{Certificates, SmtpServer, injecting, scripted};

const NOW: i64 = 1_763_834_700_000;

fn alert(name: &str, tags: &[(&str, &str)]) -> Alert {
    let rule = Rule {
        rule_id: "high-cpu".into(),
        name: name.into(),
        metric_pattern: "system.cpu.usage_total".into(),
        threshold_value: Some(90.0),
        priority: Priority::High,
        runbook: Some("https://runbooks.example.org/cpu".into()),
        ..Rule::default()
    };
    let seen = Observation::new("system.cpu.usage_total", Tags::new(tags.iter().copied()).expect("valid"), Some(97.2));
    step(&rule, None, &seen, Tick { now_ms: NOW, interval_ms: 15_000 }).alert.expect("valid")
}

fn fired(alert: &Alert, channel: &Channel) -> Notification {
    Notification::new(alert, Transition { kind: Kind::Fired, from: None, to: Some(State::Firing), at_ms: NOW }, channel.name())
}

fn usual(channel: &Channel) -> Notification {
    fired(&alert("High CPU", &[("host", "web-1")]), channel)
}

fn smtp(port: u16, tls: TlsMode, to: &[&str]) -> SmtpConfig {
    SmtpConfig {
        host: "127.0.0.1".into(),
        port,
        tls,
        from: "Keyvigil <keyvigil@example.org>".into(),
        to: to.iter().map(|to| (*to).to_owned()).collect(),
        dashboard_url: "https://keyvigil.example.org".into(),
        ..SmtpConfig::default()
    }
}

fn secured(config: SmtpConfig, certificates: &Certificates) -> SmtpConfig {
    SmtpConfig { ca_file: certificates.path("ca.pem").to_str().expect("valid").into(), username: "keyvigil".into(), password: "s3cret".into(), ..config }
}

fn mail_channels(config: &SmtpConfig) -> Vec<Channel> {
    channels(config, &SlackConfig::default()).expect("valid")
}

fn slack_channel(url: &str, timeout: Period) -> Channel {
    let config = SlackConfig { webhook_url: url.into(), dashboard_url: "https://keyvigil.example.org".into(), timeout, ..SlackConfig::default() };
    channels(&SmtpConfig::default(), &config).expect("valid").remove(0)
}

fn retry_text(result: Result<impl std::fmt::Debug, SendError>) -> String {
    match result {
        Err(SendError::Retry { text, .. }) => text,
        other => panic!("a retry was expected: {other:?}"),
    }
}

#[tokio::test]
async fn mail_arrives_with_text_and_html_through_starttls_after_a_login() {
    let certificates = Certificates::make();
    let server = SmtpServer::with_tls(&certificates, &["--tls", "starttls", "--user", "keyvigil", "--password", "s3cret"]);
    let channel = mail_channels(&secured(smtp(server.port, TlsMode::StartTls, &["Ops <ops@example.org>"]), &certificates)).remove(0);
    assert_eq!(channel.name(), "email:ops@example.org");
    let firing = alert("High CPU", &[("host", "web-1")]);
    assert_eq!(channel.send(&fired(&firing, &channel)).await.unwrap().reply, "250 OK taken");
    let mut over = Alert { state: State::Resolved, resolved_at: Some(NOW + 60_000), ..firing };
    over.memory.seq += 1;
    let resolved = Transition { kind: Kind::Resolved, from: Some(State::Firing), to: Some(State::Resolved), at_ms: NOW + 60_000 };
    channel.send(&Notification::new(&over, resolved, channel.name())).await.unwrap();

    let mails = server.mails();
    let [first, second] = mails.as_slice() else { panic!("two mails: {mails:?}") };
    assert_eq!((first.from.as_str(), first.to.as_slice()), ("keyvigil@example.org", ["ops@example.org".to_owned()].as_slice()));
    assert_eq!((first.tls.as_deref(), first.user.as_deref()), (Some("TLSv1.3"), Some("keyvigil")));
    assert_eq!(first.content_types, ["multipart/alternative", "text/plain", "text/html"]);
    assert_eq!(first.defects, Vec::<String>::new());
    assert_eq!(first.header("Subject"), "[FIRING high] High CPU on web-1");
    assert_eq!(first.header("Auto-Submitted"), "auto-generated");
    for part in [&first.text, &first.html] {
        assert!(part.contains("system.cpu.usage_total on web-1 is 97.2 %, above 90 %"), "{part}");
        assert!(part.contains(&format!("https://keyvigil.example.org/alerts/{}", over.id)) && part.contains("https://runbooks.example.org/cpu"), "{part}");
    }
    assert_eq!(second.header("Subject"), "[RESOLVED high] High CPU on web-1");
    assert_eq!(second.header("In-Reply-To"), first.header("Message-ID"));
    assert_eq!(second.header("References"), first.header("Message-ID"));
}

#[tokio::test]
async fn mail_arrives_through_tls_from_the_first_byte_and_without_tls_on_this_host() {
    let certificates = Certificates::make();
    let server = SmtpServer::with_tls(&certificates, &["--tls", "tls", "--user", "keyvigil", "--password", "s3cret"]);
    let channel = mail_channels(&secured(smtp(server.port, TlsMode::Tls, &["ops@example.org"]), &certificates)).remove(0);
    channel.send(&usual(&channel)).await.unwrap();
    assert_eq!(server.mails()[0].tls.as_deref(), Some("TLSv1.3"));

    let server = SmtpServer::start(&["--tls", "none"]);
    let channel = mail_channels(&smtp(server.port, TlsMode::None, &["ops@example.org"])).remove(0);
    channel.send(&Notification::test(channel.name(), NOW)).await.unwrap();
    assert_eq!(server.mails()[0].header("Subject"), "[TEST info] Test message");
}

#[tokio::test]
async fn nothing_is_said_to_a_server_that_cannot_prove_itself_or_speaks_old_tls_or_none() {
    let (certificates, others) = (Certificates::make(), Certificates::make());
    for (mode, name) in [(TlsMode::StartTls, "starttls"), (TlsMode::Tls, "tls")] {
        let server = SmtpServer::with_tls(&others, &["--tls", name]);
        let channel = mail_channels(&secured(smtp(server.port, mode, &["ops@example.org"]), &certificates)).remove(0);
        let text = retry_text(channel.send(&usual(&channel)).await);
        assert!(text.contains("UnknownIssuer") || text.contains("certificate"), "{text}");
        let old = SmtpServer::with_tls(&certificates, &["--tls", name, "--tls12"]);
        let channel = mail_channels(&secured(smtp(old.port, mode, &["ops@example.org"]), &certificates)).remove(0);
        retry_text(channel.send(&usual(&channel)).await);
        assert!(server.mails().is_empty() && old.mails().is_empty());
    }
    let plain = SmtpServer::start(&["--tls", "none"]);
    let channel = mail_channels(&secured(smtp(plain.port, TlsMode::StartTls, &["ops@example.org"]), &certificates)).remove(0);
    let text = retry_text(channel.send(&usual(&channel)).await);
    assert!(text.contains("STARTTLS"), "{text}");
    assert!(plain.mails().is_empty());
}

#[tokio::test]
async fn answers_slipped_in_before_tls_are_not_taken_for_the_servers() {
    let certificates = Certificates::make();
    let server = SmtpServer::with_tls(&certificates, &["--tls", "starttls"]);
    let ca_file = certificates.path("ca.pem").to_str().unwrap().to_owned();
    let through = |port| SmtpConfig { ca_file: ca_file.clone(), ..smtp(port, TlsMode::StartTls, &["ops@example.org"]) };
    let honest = mail_channels(&through(injecting(server.port, ""))).remove(0);
    honest.send(&usual(&honest)).await.unwrap();
    // The answers to EHLO, MAIL, RCPT, DATA and the mail itself.
    let forged = "250 mail.test\r\n250 ok\r\n250 ok\r\n354 go\r\n250 forged\r\n";
    let channel = mail_channels(&through(injecting(server.port, forged))).remove(0);
    let text = retry_text(channel.send(&usual(&channel)).await);
    assert!(text.contains("STARTTLS"), "{text}");
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn a_mailbox_that_refuses_holds_up_no_other() {
    let server =
        SmtpServer::start(&["--tls", "none", "--refuse", "gone@example.org=550 5.1.1 no such mailbox", "--refuse", "slow@example.org=451 4.7.1 greylisted"]);
    let all = mail_channels(&smtp(server.port, TlsMode::None, &["gone@example.org", "slow@example.org", "ops@example.org"]));
    let gone = all[0].send(&usual(&all[0])).await;
    assert!(matches!(&gone, Err(SendError::Permanent(text)) if text.contains("5.1.1 no such mailbox")), "{gone:?}");
    assert!(retry_text(all[1].send(&usual(&all[1])).await).contains("greylisted"));
    all[2].send(&usual(&all[2])).await.unwrap();
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, ["ops@example.org"]);
    assert_eq!(mails[0].header("To"), "gone@example.org, slow@example.org, ops@example.org", "each sees who else was to know");
}

#[tokio::test]
async fn what_the_server_says_before_the_mail_is_about_the_server() {
    let closed = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
    let certificates = Certificates::make();
    let login = SmtpServer::with_tls(&certificates, &["--tls", "starttls", "--user", "keyvigil", "--password", "another"]);
    let cases = [
        (smtp(closed, TlsMode::None, &["a@b.c"]), "refused"),
        (smtp(scripted("554 5.7.1 go away\r\n", &[]), TlsMode::None, &["a@b.c"]), "go away"),
        (smtp(scripted("220 mail.test\r\n", &["250 mail.test\r\n", "530 5.7.0 login first\r\n"]), TlsMode::None, &["a@b.c"]), "login first"),
        (secured(smtp(login.port, TlsMode::StartTls, &["a@b.c"]), &certificates), "login: permanent error (535)"),
        (SmtpConfig { timeout: "200ms".parse().unwrap(), ..smtp(scripted("", &[]), TlsMode::None, &["a@b.c"]) }, "no answer within 200ms"),
    ];
    for (config, expected) in cases {
        let channel = mail_channels(&config).remove(0);
        let text = retry_text(channel.send(&usual(&channel)).await);
        assert!(text.contains(expected) && !text.contains("s3cret"), "{text}");
    }
    let server = SmtpServer::start(&["--tls", "none", "--answer", "554 5.6.0 unwanted"]);
    let channel = mail_channels(&smtp(server.port, TlsMode::None, &["a@b.c"])).remove(0);
    assert!(matches!(channel.send(&usual(&channel)).await, Err(SendError::Permanent(text)) if text.contains("unwanted")));
}

#[tokio::test]
async fn mail_that_was_taken_is_not_sent_again_because_the_server_does_not_say_goodbye() {
    let replies = &["250 mail.test\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n", "250 taken\r\n"];
    let port = scripted("220 mail.test\r\n", replies);
    let channel = mail_channels(&SmtpConfig { timeout: "5s".parse().unwrap(), ..smtp(port, TlsMode::None, &["a@b.c"]) }).remove(0);
    assert_eq!(channel.send(&usual(&channel)).await.unwrap().reply, "250 taken");
}

#[tokio::test]
async fn hostile_names_and_tags_stay_text_in_mail_and_in_slack() {
    let mut alert = alert("Täst <b>&amp;", &[("host", "<!channel>"), ("\"><script>", "<https://evil.example.org|click> '\"&")]);
    "a\r\nBcc: victim@example.org\r\n\r\nbody".clone_into(&mut alert.name);
    alert.summary = "<!everyone> & ".repeat(1_000);
    let server = SmtpServer::start(&["--tls", "none"]);
    let channel = mail_channels(&smtp(server.port, TlsMode::None, &["ops@example.org"])).remove(0);
    channel.send(&fired(&alert, &channel)).await.unwrap();
    let mail = server.mails().remove(0);
    assert_eq!(mail.header("Subject"), "[FIRING high] a  Bcc: victim@example.org    body on <!channel>");
    assert!(!mail.headers.iter().any(|(name, _)| name == "Bcc") && mail.to == ["ops@example.org"]);
    assert!(mail.ascii && mail.defects.is_empty(), "{:?}", mail.defects);
    assert!(!mail.html.contains("<script>") && mail.html.contains("&lt;script&gt;"), "{}", mail.html);

    let server = SlackServer::start(vec![]);
    let channel = slack_channel(&server.url(), Period::seconds(10));
    assert_eq!(channel.send(&fired(&alert, &channel)).await.unwrap().reply, "200 ok");
}

#[tokio::test]
async fn slack_takes_the_message_and_its_answers_are_understood() {
    let server = SlackServer::start(vec![
        Answer::Honest,
        Answer::Status(429, "Retry-After: 42\r\n", "rate_limited"),
        Answer::Status(500, "", "oops"),
        Answer::Status(404, "", "no_service"),
        Answer::Status(302, "Location: /elsewhere\r\n", ""),
        Answer::Status(200, "", "<html>log in</html>"),
        Answer::Endless(503),
    ]);
    let channel = slack_channel(&server.url(), Period::seconds(10));
    assert_eq!(channel.name(), "slack");
    let notification = usual(&channel);
    assert_eq!(channel.send(&notification).await.unwrap().reply, "200 ok");
    let limited = channel.send(&notification).await;
    assert!(matches!(&limited, Err(SendError::Retry { after, .. }) if *after == Some(Duration::from_secs(42))), "{limited:?}");
    assert!(retry_text(channel.send(&notification).await).contains("500: oops"));
    let gone = channel.send(&notification).await;
    assert!(matches!(&gone, Err(SendError::Permanent(text)) if text.contains("404: no_service")), "{gone:?}");
    assert!(retry_text(channel.send(&notification).await).contains("redirects are not followed"));
    retry_text(channel.send(&notification).await);
    assert!(retry_text(channel.send(&notification).await).len() < 600, "an answer without end is not read to its end");
    assert!(server.paths().iter().all(|path| path == "/services/T000/B000/S3CR3TPATH"), "{:?}", server.paths());

    let message = server.messages().remove(0);
    assert_eq!(message["blocks"][0]["text"]["text"], "▲ FIRING high: High CPU on web-1");
    assert_eq!(message["blocks"][1]["text"]["text"], "system.cpu.usage_total on web-1 is 97.2 %, above 90 %");
    assert_eq!(message["blocks"][3]["elements"][1]["url"], "https://runbooks.example.org/cpu");
}

#[tokio::test]
async fn slack_not_answering_ends_in_time_and_tells_no_secret() {
    let server = SlackServer::start(vec![Answer::Hang]);
    let channel = slack_channel(&server.url(), "200ms".parse().unwrap());
    let closed = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
    let nobody = slack_channel(&format!("http://127.0.0.1:{closed}/S3CR3TPATH"), Period::seconds(10));
    for channel in [&channel, &nobody] {
        let text = retry_text(channel.send(&usual(channel)).await);
        assert!(!text.contains("S3CR3TPATH") && !format!("{channel:?}").contains("S3CR3TPATH"), "{text}");
    }
}

//! Opens and denials in a container: told of its keys, and of nobody else's.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use keyvigil_agent::http::Dialer;
use keyvigil_agent::run;
use keyvigil_common::clock::SystemClock;
use keyvigil_common::stop::Stop;
use keyvigil_tests::harness::until;
use serde_json::Value;

use super::{NOBODY, Scene, set_mode};

/// A process whose root is a layered directory in a mount namespace of its own, as an engine makes them; `None` where we may not.
struct Container(Child);

impl Container {
    fn start(dir: &Path) -> Option<Self> {
        let script =
            "mkdir -p up work root low/keys low/usr low/proc low/dev; : > low/dev/null; for link in bin lib lib64; do ln -sfn usr/$link low/$link; done
            openssl genpkey -algorithm ED25519 -out low/keys/a.key
            mount -t overlay overlay -o lowerdir=low,upperdir=up,workdir=work root
            mount --bind /usr root/usr && mount --make-private root/usr && exec chroot root sh -c 'echo in; exec sleep 1000'";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script]).current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("unshare");
        let mut said = [0; 2];
        let is_in = std::io::Read::read_exact(child.stdout.as_mut().expect("its output"), &mut said).is_ok();
        let container = Self(child);
        is_in.then_some(container)
    }

    /// Runs a script in it.
    fn run(&self, script: &str) {
        let pid = self.0.id().to_string();
        let status = Command::new("nsenter").args(["-t", &pid, "--mount", "--root", "--wd=/", "sh", "-ec", script]).status().expect("nsenter");
        assert!(status.success(), "{script}");
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_container_opens_and_denials_are_told_of_its_keys_and_not_of_the_hosts_at_the_same_path() {
    let Some(mut scene) = Scene::start(&[]).await else { return };
    let dir = scene.harness.dir("container");
    set_mode(&dir, 0o755);
    let Some(container) = Container::start(&dir) else {
        eprintln!("not tried: this user may make no container");
        return scene.stop().await;
    };
    scene.stop().await;
    scene.config.keystore.containers = true;
    scene.config.keystore.paths.push("/keys".to_owned());
    scene.agent = Some(run::start(&scene.config, SystemClock::shared(), Dialer::tcp(), &Stop::new()).expect("it starts again"));
    let told = async |kind: &str| {
        let is_inside = |event: &Value| event["path"].as_str().is_some_and(|path| path.starts_with("container:") && path.ends_with(":/keys/a.key"));
        scene.events(kind).await.into_iter().filter(is_inside).collect::<Vec<_>>()
    };
    until("that the container's key is followed", || async {
        container.run("cat /keys/a.key > /dev/null");
        told("accessed").await.iter().any(|event| event["actor"]["exe"].as_str().is_some_and(|exe| exe.ends_with("bin/cat"))).then_some(())
    })
    .await;
    // Another file of the upper layer, under the same name.
    let before = told("accessed").await.len();
    container.run("cp /keys/a.key /keys/next && mv /keys/next /keys/a.key");
    container.run("tail -c 1 /keys/a.key > /dev/null");
    until("who reads what replaced it", || async {
        let told = told("accessed").await;
        (told.len() > before && told.iter().any(|event| event["actor"]["exe"].as_str().is_some_and(|exe| exe.ends_with("bin/tail")))).then_some(())
    })
    .await;
    let nobody = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups cat");
    container.run(&format!("chmod 600 /keys/a.key; ! {nobody} /keys/a.key 2> /dev/null"));
    let denied = until("who was denied in the container", || async { told("denied").await.pop() }).await;
    assert_eq!(denied["actor"]["uid"], NOBODY);
    // Its own file, at the path of one of the host's keys.
    let same = scene.keys.join("a.key");
    container.run(&format!("mkdir -p {0} && echo x > {0}/a.key && chmod 600 {0}/a.key && ! {nobody} {1} 2> /dev/null", scene.keys.display(), same.display()));
    container.run(&format!("! {nobody} /keys/a.key 2> /dev/null"));
    until("what was denied after that", || async { Some(told("denied").await).filter(|told| told.len() >= 2) }).await;
    let accused: Vec<Value> = scene.events("denied").await.into_iter().filter(|event| event["path"].as_str() == same.to_str()).collect();
    assert!(accused.is_empty(), "{accused:?}");
    scene.stop().await;
}

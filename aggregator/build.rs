//! Builds again when the dashboard was built again.

fn main() {
    println!("cargo:rerun-if-changed=dashboard/dist");
}

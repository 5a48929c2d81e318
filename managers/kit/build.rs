//! Generates the types of etcd's protocol and of that between managers, which borrows from the affinity protocol;
//! protox reads the .proto files, so no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const AFFINITY: &str = "../../runtime/agent/proto";
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed={AFFINITY}");
    let descriptors = protox::compile(["proto/etcd.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .bytes(".")
        .compile_fds(descriptors)?;
    let descriptors = protox::compile(["proto/replication.proto"], ["proto", AFFINITY])?;
    // The agent has the types of the affinity protocol.
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".signalbox.affinity.v1", "::signalbox_agent::wire::pb")
        .compile_fds(descriptors)?;
    Ok(())
}

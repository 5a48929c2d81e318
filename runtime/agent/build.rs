//! Generates the affinity protocol's types; protox reads the .proto file, so no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/affinity.proto");
    let descriptors = protox::compile(["proto/affinity.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}

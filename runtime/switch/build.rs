//! Compiles the DataplaneInterface's .proto file with protox, so that nobody needs protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["p4/bm/dataplane_interface.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // Packets are handed on and not looked into: share, do not copy.
        .bytes(".p4.bm.PacketStreamRequest.packet")
        .bytes(".p4.bm.PacketStreamResponse.packet")
        .compile_fds(descriptors)?;
    Ok(())
}

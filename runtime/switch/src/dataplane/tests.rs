//! The service without a switch behind its ports is tested with the server; here, what a client
//! says when nobody is there.

use std::time::Duration;

use super::{DataplaneClient, DataplaneError};

#[tokio::test]
async fn a_missing_switch_is_one_clear_line() {
    // Port 1 is nobody's.
    let error = DataplaneClient::connect("127.0.0.1:1", 1, Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(matches!(error, DataplaneError::Unreachable { .. }));
    assert!(
        error
            .to_string()
            .starts_with("no DataplaneInterface answers at `127.0.0.1:1`"),
        "{error}"
    );
}

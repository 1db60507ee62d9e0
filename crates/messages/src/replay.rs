//! Rejected messages decoded again, from what their rejects keep of them.

use std::sync::Arc;

use longshore_core::batch::Payload;
use longshore_core::letters::Letter;
use longshore_core::stream::Decode;

use crate::decode::Contents;
use crate::decoder::Decoder;
use crate::message::Messages;
use crate::original::Original;

impl Decoder {
    /// What decodes the message of a dead letter again: its bytes, corrected or not, with the key, headers, coordinates and time that it came
    /// with. It is routed anew, unless a person named its table; if nothing names it, the letter's own counts. `Err` says why there is nothing to decode.
    pub fn again(self: &Arc<Self>, letter: &Letter) -> Result<Arc<dyn Decode>, String> {
        let decoding = letter.decoding.as_ref().ok_or("it does not say which message it was")?;
        let original = Original::read(decoding).map_err(|error| error.to_string())?;
        let Payload::Inline(content) = &letter.payload else { return Err("its payload is not held in memory".to_owned()) };
        let mut messages = Messages::with_capacity(content.len());
        original.push(content, &mut messages);
        Ok(Arc::new(Contents { decoder: self.clone(), messages, table: letter.table.clone(), readdressed: letter.readdressed }))
    }
}

//! `pg_sleep(seconds)`: a wait that holds no thread and ends when its statement is cancelled. It has
//! no place in a continuous query, where it would hold up a worker; the lowering refuses it.

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{AsArray, StringArray},
    datatypes::{DataType, Float64Type},
};
use async_trait::async_trait;
use datafusion::{
    error::Result,
    logical_expr::{
        ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
        async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl},
    },
};

use super::{error::user_error, function::array_argument, session::facts};

/// Its name.
pub const NAME: &str = "pg_sleep";

/// Longest wait, in seconds: a year.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// The function.
pub fn sleep() -> Arc<ScalarUDF> {
    let signature = Signature::exact(vec![DataType::Float64], Volatility::Volatile);
    Arc::new(AsyncScalarUDF::new(Arc::new(Sleep { signature })).into_scalar_udf())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sleep {
    signature: Signature,
}

impl ScalarUDFImpl for Sleep {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// PostgreSQL's is void, which prints as an empty text.
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(user_error("0A000", "pg_sleep() is supported among the select items only"))
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Sleep {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let seconds = array_argument(&args, 0)?;
        let directory = Arc::clone(&facts(&args)?.directory);
        // One wait a row, one after the other, as a row at a time would be answered.
        let waits: Vec<Option<f64>> = seconds.as_primitive::<Float64Type>().iter().collect();
        for seconds in waits.iter().flatten().filter(|seconds| **seconds > 0.0) {
            directory.sleep(Duration::from_secs_f64(seconds.min(SECONDS_MAX))).await;
        }
        let answers = waits.iter().map(|wait| wait.map(|_| ""));
        Ok(ColumnarValue::Array(Arc::new(answers.collect::<StringArray>())))
    }
}

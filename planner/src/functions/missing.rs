//! Functions that are not there. Which one a call means, PostgreSQL says with the types of its
//! arguments, and those are known only when they are planned: so a call of an unknown name is
//! planned as a function whose type rule is the error.

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

use arrow::datatypes::DataType;
use datafusion::{
    error::{DataFusionError, Result},
    execution::{FunctionRegistry, SessionState},
    logical_expr::{
        ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
    sql::sqlparser::ast::{self, Expr, Visit},
};

use super::{
    error::{carry, user_error},
    function::Function,
};
use crate::{Error, SqlType};

/// What DataFusion's planner knows by itself, without a function of that name.
const KNOWN_TO_PLANNER: [&str; 3] = ["unnest", "struct", "grouping"];

/// PostgreSQL's hint.
const HINT: &str = "No function matches the given name and argument types. \
                    You might need to add explicit type casts.";

/// 42883 with the types of the arguments and PostgreSQL's hint.
pub fn no_such_function(name: &str, types: &[String]) -> Error {
    let message = format!("function {name}({}) does not exist", types.join(", "));
    Error::new("42883", message).with_hint(HINT)
}

/// The state, and in it a function for each name that a statement calls and nobody has.
pub fn with_missing(state: &SessionState, statement: &impl Visit) -> Option<SessionState> {
    let mut missing: BTreeSet<(String, Vec<bool>)> = BTreeSet::new();
    let _ = ast::visit_expressions(statement, |expr| {
        if let Expr::Function(function) = expr {
            let name = function.name.to_string().to_lowercase();
            if !is_known(state, &name) {
                missing.insert((name, literals(function)));
            }
        }
        ControlFlow::<()>::Continue(())
    });
    if missing.is_empty() {
        return None;
    }
    let mut state = state.clone();
    for (name, literals) in missing {
        let function =
            Missing { name, literals, signature: Signature::variadic_any(Volatility::Volatile) };
        // A name can be registered at any time.
        let _ = state.register_udf(Arc::new(ScalarUDF::from(function)));
    }
    Some(state)
}

fn is_known(state: &SessionState, name: &str) -> bool {
    KNOWN_TO_PLANNER.contains(&name)
        || state.scalar_functions().contains_key(name)
        || state.aggregate_functions().contains_key(name)
        || state.window_functions().contains_key(name)
        || state.table_functions().contains_key(name)
        || name.contains('"')
}

/// Which arguments are string literals or NULL: PostgreSQL calls their type unknown.
fn literals(function: &ast::Function) -> Vec<bool> {
    let ast::FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let is_literal = |argument: &ast::FunctionArg| {
        matches!(
            argument,
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(Expr::Value(value)))
                if matches!(value.value, ast::Value::SingleQuotedString(_) | ast::Value::Null)
        )
    };
    list.args.iter().map(is_literal).collect()
}

/// A function that is not there.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Missing {
    name: String,
    literals: Vec<bool>,
    signature: Signature,
}

impl Missing {
    fn error(&self, types: &[DataType]) -> DataFusionError {
        let name = |(index, data_type): (usize, &DataType)| {
            let is_unknown =
                self.literals.get(index) == Some(&true) || *data_type == DataType::Null;
            match data_type {
                _ if is_unknown => "unknown".to_owned(),
                // PostgreSQL leaves the digits out.
                DataType::Decimal128(..) => "numeric".to_owned(),
                other => SqlType::of_arrow(other).name(),
            }
        };
        let types: Vec<String> = types.iter().enumerate().map(name).collect();
        DataFusionError::External(Box::new(no_such_function(&self.name, &types)))
    }
}

impl ScalarUDFImpl for Missing {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Err(self.error(types))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(self.error(&[]))
    }
}

/// Functions that syntax is rewritten to in order to be refused where its types are asked for.
pub fn refusals() -> Vec<Arc<ScalarUDF>> {
    vec![
        Function::new(
            "quantified_comparison",
            |_| {
                let message = "a comparison with ANY or ALL of a subquery is not supported";
                let hint = "Use IN, NOT IN, or compare with (SELECT min(…)) or (SELECT max(…)).";
                Err(carry_whole(Error::unsupported(message).with_hint(hint)))
            },
            |_| Err(user_error("0A000", "not supported")),
        )
        .build(),
        Function::new(
            "row_in_subquery",
            |_| {
                let message = "IN of a row and a subquery is not supported";
                let hint = "Use EXISTS with a comparison of each column.";
                Err(carry_whole(Error::unsupported(message).with_hint(hint)))
            },
            |_| Err(carry(Error::unsupported("not supported"))),
        )
        .build(),
    ]
}

fn carry_whole(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

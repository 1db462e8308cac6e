// All tests in one process: a process a file, as `node --test` has it, takes longer than the tests.
import "./cells.test.js";
import "./csv.test.js";
import "./data.test.js";
import "./format.test.js";
import "./isolines.test.js";
import "./mesh.test.js";
import "./models.test.js";
import "./scales.test.js";

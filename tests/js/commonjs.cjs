// An application of type commonjs: node commonjs.cjs heartwire.mjs. It prints what both ways of loading give.
const { pathToFileURL } = require("node:url");

const [path] = process.argv.slice(2);
import(pathToFileURL(path).href).then(({ connect }) => {
  const required = process.features.require_module ? require(path).connect : connect;
  console.log(typeof connect, required === connect);
});

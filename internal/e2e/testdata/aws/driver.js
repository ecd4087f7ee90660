'use strict';
// Reads one call a line, {"operation", "params"}, makes it with the AWS SDK, and writes what came of it in a line: {"data"} or
// {"error"}. The argument is a file that says where the service is and which credentials to show.
const fs = require('fs');
const https = require('https');
const readline = require('readline');
const AWS = require('aws-sdk');

const to = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const client = new AWS.PaymentCryptographyData({
  apiVersion: '2022-02-03',
  endpoint: to.endpoint,
  region: 'xx-latchkey-1',
  credentials: new AWS.Credentials('ignored', 'ignored'),
  maxRetries: 0,
  httpOptions: {
    agent: new https.Agent({
      keepAlive: true,
      cert: fs.readFileSync(to.cert),
      key: fs.readFileSync(to.key),
      ca: fs.readFileSync(to.ca),
    }),
  },
});

(async () => {
  for await (const line of readline.createInterface({input: process.stdin})) {
    const {operation, params} = JSON.parse(line);
    let out;
    try {
      out = {data: await client[operation](params).promise()};
    } catch (e) {
      out = {error: {code: e.code, message: e.message, status: e.statusCode, retryable: !!e.retryable}};
    }
    console.log(JSON.stringify(out));
  }
})();
